"""The pool of right completions that demonstrations are chosen from. Part of `ports.ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class DemonstrationRow(NamedTuple):
    """A right completion, kept under the sequence number of its group."""

    apply_seq: int
    ordinal: int
    policy_version: int
    """The run's version when it was reported; prompt batches of later versions may show it."""
    answer: str


class Demonstrations(Protocol):
    """Reading the pool; it is written by reports and pruned by folds."""

    async def demonstrations(
        self, run_id: str, *, before: int, limit: int
    ) -> list[DemonstrationRow]:
        """The newest of versions below `before`, newest first.

        Once a version is made nothing is added below it: the same call finds the same rows, until
        several times `limit` newer ones have come.
        """

    async def live_tasks(self, run_id: str, column: int) -> Sequence[int]:
        """Tasks whose notes have a count other than 0 in this column, by ordinal."""
