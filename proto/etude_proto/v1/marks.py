"""What acks and runs say of checkpoints; the checkpoints themselves: `checkpoints`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Id, Request, Response, Version


class CheckpointMark(Request):
    """How a checkpoint is to be known, and whether retention may drop it."""

    label: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")] | None = None
    pinned: bool = False
    """Never dropped by retention."""


class ForkedFrom(Response):
    """Where a fork began."""

    run_id: Id
    checkpoint_id: Id
    policy_version: Version
