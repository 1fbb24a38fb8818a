"""The route by which rollout workers ask for weights; `weights/sending.py` sends them.

Without a sender (`ETUDE_WEIGHT_CHANNEL=disk`) it answers 404. It asks for a key of its own,
where one is set: whoever may open a transfer gets the weights.
"""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException

from etude_proto.v1.weights import Transfer, TransferRequest

from ..weights.sending import Sender, TransferRefused
from .problems import RESPONSES


def make_weights_router(sender: Sender | None, *, key: str | None) -> APIRouter:
    """The route over a sender."""
    router = APIRouter(responses=RESPONSES)

    @router.post("/v1/weights/{directory}/transfers", operation_id="open_transfer", status_code=201)
    def open_transfer(
        directory: str,
        request: TransferRequest,
        authorization: Annotated[str | None, Header()] = None,
    ) -> Transfer:
        """Open a transfer of a published version: the trainer waits for the engine to join."""
        if key is not None:
            given = (authorization or "").encode()
            if not hmac.compare_digest(given, f"Bearer {key}".encode()):
                raise HTTPException(401, "this trainer asks for a key (ETUDE_TRANSFER_KEY)")
        if sender is None:
            raise HTTPException(404, "this trainer sends no weights (ETUDE_WEIGHT_CHANNEL)")
        try:
            return sender.start(directory, request)
        except TransferRefused as error:
            raise HTTPException(error.status, error.detail) from error

    return router
