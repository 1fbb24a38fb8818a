"""The bank of a run: groups that were trained on, kept to be replayed. Rules: `curriculum.banking`.

Neighbour: `ports.races`, whose training leases fill and empty it; `store/redis` has both.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

from etude_sampler.curriculum import BankRule

if TYPE_CHECKING:
    from .races import RunKey

__all__ = ["BankRule", "Banks", "ReplayLine", "TakenGroup", "pack_note"]


class TakenGroup(NamedTuple):
    """A group in a training lease."""

    group_id: str
    """`<prompt lease>:<ordinal>`."""
    manifest: bytes
    num_replays: int = 0
    """Times that it was handed out after it had been trained on; this one included."""


class ReplayLine(NamedTuple):
    """A group that was trained on once more: its own line in the ledger, out of all statistics."""

    lease_id: str
    """Of the training batch."""
    fence: int
    ordinal: int
    number: int
    """Its first, second ... replay."""
    origin_seq: int
    """The line of the group when it was reported."""
    policy_version: int
    """That the step began from."""
    min_version: int


def pack_note(rule: BankRule, value: float, *, was_dropped: bool) -> bytes:
    """What a reported group tells the bank: momentum, value x, and whether the gate dropped it."""
    return struct.pack("<ddB", rule.momentum, value, was_dropped)


class Banks(Protocol):
    """Steps on a run's bank. All raise `EpochMismatch` and `DependencyUnavailable`."""

    async def replayed(self, run: RunKey, lease_id: str) -> list[TakenGroup]:
        """Groups of a live training lease that come from the bank, the greatest first."""

    async def shed(self, run: RunKey) -> int:
        """Empty the bank; number of groups forgotten."""
