"""Opens the weight channel that the settings name. The one place that knows all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from etude_proto.v1.weights import TransferBackend

from .channels import FromDisk, FromTrainer, WeightChannel
from .disk import DiskChannel

if TYPE_CHECKING:
    from ..settings import RolloutSettings


@asynccontextmanager
async def open_channel(settings: RolloutSettings) -> AsyncIterator[WeightChannel]:
    """The channel, for the length of the block."""
    disk = DiskChannel(settings.weights_root)
    if settings.weight_channel == "disk":
        yield FromDisk(disk)
        return
    key = settings.transfer_key
    headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
    url = settings.trainer_url or ""  # the settings see to it that there is one
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield FromTrainer(disk, client, backend=TransferBackend(settings.weight_channel))
