"""What a replay found, as plain values. Used by `replay`; the command prints it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MAX_NAMED = 20
"""Differences and gaps that are named; all are counted (our choice)."""
Verdict = Literal["same", "different", "unexplained"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One decision that is not what replay makes of it."""

    epoch: int
    number: int
    kind: str
    what: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Decisions that are not there, or cannot be replayed for lack of others."""

    epoch: int
    first: int | None
    last: int | None
    why: str


@dataclass(slots=True)
class EpochReport:
    """One epoch."""

    epoch: int
    num_logged: int
    num_replayed: int = 0
    num_draws: int = 0
    num_tasks: int = 0
    last_number: int = 0


@dataclass(slots=True)
class LedgerReport:
    """Whether the ledger alone gives the statistics and the mastery that are stored."""

    num_groups: int = 0
    num_versions: int = 0
    explains_statistics: bool = False
    explains_mastery: bool = False
    digest: str = ""
    """SHA-256 of the statistics folded from the ledger."""
    stored_digest: str = ""
    num_faults: int = 0
    first_fault: str | None = None


@dataclass(slots=True)
class ReplayReport:
    """All of a replay."""

    run_id: str
    epochs: list[EpochReport] = field(default_factory=list)
    num_differences: int = 0
    differences: list[Difference] = field(default_factory=list)
    """The first ones, in order."""
    num_gaps: int = 0
    gaps: list[Gap] = field(default_factory=list)
    """The first ones, in order."""
    ledger: LedgerReport = field(default_factory=LedgerReport)

    def differs(self, difference: Difference) -> None:
        """Count a difference."""
        self.num_differences += 1
        if self.num_differences <= MAX_NAMED:
            self.differences.append(difference)

    def lacks(self, gap: Gap) -> None:
        """Count a gap."""
        self.num_gaps += 1
        if self.num_gaps <= MAX_NAMED:
            self.gaps.append(gap)

    @property
    def verdict(self) -> Verdict:
        """`same` only if nothing differs, nothing is missing and the ledger explains all."""
        explained = self.ledger.explains_statistics and self.ledger.explains_mastery
        if self.num_differences or self.ledger.num_faults:
            return "different"
        return "same" if explained and not self.num_gaps else "unexplained"
