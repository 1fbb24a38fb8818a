"""Calls of time travel, for both clients: checkpoints, restore, fork, draws.

The other calls are in `operations.py` and `keys.py`.
"""

from __future__ import annotations

from urllib.parse import quote

from etude_proto.v1 import (
    Checkpoint,
    CheckpointCreate,
    CheckpointPage,
    DrawPage,
    ForkRequest,
    Restore,
    RestorePage,
    RestoreRequest,
    Run,
)

from .call import Call, json_decoder
from .keys import AsyncKeyCalls, KeyCalls
from .operations import _get, _headers, _post, _run


def _checkpoint(run_id: str, checkpoint_id: str) -> str:
    return _run(run_id, f"/checkpoints/{quote(checkpoint_id, safe='')}")


def create_checkpoint(
    run_id: str, request: CheckpointCreate, *, key: str | None
) -> Call[Checkpoint]:
    return _post(_run(run_id, "/checkpoints"), request, Checkpoint, key=key)


def list_checkpoints(run_id: str, *, limit: int | None, cursor: str | None) -> Call[CheckpointPage]:
    return _get(_run(run_id, "/checkpoints"), CheckpointPage, limit=limit, cursor=cursor)


def get_checkpoint(run_id: str, checkpoint_id: str) -> Call[Checkpoint]:
    return _get(_checkpoint(run_id, checkpoint_id), Checkpoint)


def delete_checkpoint(run_id: str, checkpoint_id: str, *, key: str | None) -> Call[Checkpoint]:
    return Call(
        "DELETE",
        _checkpoint(run_id, checkpoint_id),
        json_decoder(Checkpoint),
        headers=_headers(None, key),
    )


def restore_run(run_id: str, request: RestoreRequest, *, key: str | None) -> Call[Restore]:
    return _post(_run(run_id, "/restore"), request, Restore, key=key)


def list_restores(run_id: str, *, limit: int | None, cursor: str | None) -> Call[RestorePage]:
    return _get(_run(run_id, "/restores"), RestorePage, limit=limit, cursor=cursor)


def fork_run(run_id: str, request: ForkRequest, *, key: str | None) -> Call[Run]:
    return _post(_run(run_id, "/fork"), request, Run, key=key, partial=True)


def list_draws(run_id: str, *, limit: int | None, cursor: str | None) -> Call[DrawPage]:
    return _get(_run(run_id, "/draws"), DrawPage, limit=limit, cursor=cursor)


class AsyncTravelCalls(AsyncKeyCalls):
    """The calls of time travel of `AsyncEtudeClient`."""

    async def create_checkpoint(
        self, run_id: str, request: CheckpointCreate, *, idempotency_key: str | None = None
    ) -> Checkpoint:
        """Take a curriculum checkpoint of a run as it is now."""
        return await self._send(create_checkpoint(run_id, request, key=idempotency_key))

    async def list_checkpoints(
        self, run_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> CheckpointPage:
        """One page of curriculum checkpoints, oldest first."""
        return await self._send(list_checkpoints(run_id, limit=limit, cursor=cursor))

    async def get_checkpoint(self, run_id: str, checkpoint_id: str) -> Checkpoint:
        """One curriculum checkpoint."""
        return await self._send(get_checkpoint(run_id, checkpoint_id))

    async def delete_checkpoint(
        self, run_id: str, checkpoint_id: str, *, idempotency_key: str | None = None
    ) -> Checkpoint:
        """Forget a curriculum checkpoint, pinned or not."""
        return await self._send(delete_checkpoint(run_id, checkpoint_id, key=idempotency_key))

    async def restore_run(
        self, run_id: str, request: RestoreRequest, *, idempotency_key: str | None = None
    ) -> Restore:
        """Take a run back to a checkpoint; what came after it counts no more."""
        return await self._send(restore_run(run_id, request, key=idempotency_key))

    async def list_restores(
        self, run_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> RestorePage:
        """One page of restores, oldest first."""
        return await self._send(list_restores(run_id, limit=limit, cursor=cursor))

    async def fork_run(
        self, run_id: str, request: ForkRequest, *, idempotency_key: str | None = None
    ) -> Run:
        """Begin another run from a checkpoint of this one."""
        return await self._send(fork_run(run_id, request, key=idempotency_key))

    async def list_draws(
        self, run_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> DrawPage:
        """One page of the draws in the decision log, oldest first."""
        return await self._send(list_draws(run_id, limit=limit, cursor=cursor))


class TravelCalls(KeyCalls):
    """The calls of time travel of `EtudeClient`."""

    def create_checkpoint(
        self, run_id: str, request: CheckpointCreate, *, idempotency_key: str | None = None
    ) -> Checkpoint:
        """Take a curriculum checkpoint of a run as it is now."""
        return self._send(create_checkpoint(run_id, request, key=idempotency_key))

    def list_checkpoints(
        self, run_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> CheckpointPage:
        """One page of curriculum checkpoints, oldest first."""
        return self._send(list_checkpoints(run_id, limit=limit, cursor=cursor))

    def get_checkpoint(self, run_id: str, checkpoint_id: str) -> Checkpoint:
        """One curriculum checkpoint."""
        return self._send(get_checkpoint(run_id, checkpoint_id))

    def delete_checkpoint(
        self, run_id: str, checkpoint_id: str, *, idempotency_key: str | None = None
    ) -> Checkpoint:
        """Forget a curriculum checkpoint, pinned or not."""
        return self._send(delete_checkpoint(run_id, checkpoint_id, key=idempotency_key))

    def restore_run(
        self, run_id: str, request: RestoreRequest, *, idempotency_key: str | None = None
    ) -> Restore:
        """Take a run back to a checkpoint; what came after it counts no more."""
        return self._send(restore_run(run_id, request, key=idempotency_key))

    def list_restores(
        self, run_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> RestorePage:
        """One page of restores, oldest first."""
        return self._send(list_restores(run_id, limit=limit, cursor=cursor))

    def fork_run(
        self, run_id: str, request: ForkRequest, *, idempotency_key: str | None = None
    ) -> Run:
        """Begin another run from a checkpoint of this one."""
        return self._send(fork_run(run_id, request, key=idempotency_key))

    def list_draws(
        self, run_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> DrawPage:
        """One page of the draws in the decision log, oldest first."""
        return self._send(list_draws(run_id, limit=limit, cursor=cursor))
