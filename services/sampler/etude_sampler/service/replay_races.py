"""The races of one epoch, run again by the pure model and compared with the log. Used by `replay`.

Weights are the logged ones here, so that a wrong weight is named once, by `replay_weights`, and
what follows from it is still compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from etude_sampler.leasing.heaps import HeapLanes
from etude_sampler.statistics import Floats, Ints

from ..ports.decisions import LoggedDecision
from .context import RunContext
from .entering import draws
from .hard_states import Taken
from .lane_loads import ENTRIES_PER_EPOCH
from .replay_log import Entered, LoggedDraw, entered, logged_draw, logged_shares

_CHUNK = 20_000


class Differs(Exception):
    """The model and the log say different things; the message names the first of them."""


@dataclass(slots=True)
class Held:
    """A live lease: the tasks in it with their entry numbers."""

    fence: int
    version: int
    entries: dict[int, int]
    taken: dict[int, Taken]
    """How each of them was drawn."""


def first_of(tasks_B: Ints, found_B: Floats | Ints, want_B: Floats | Ints) -> str:
    """`task 5: the log has 3, replay 4` for the first row in which two columns differ."""
    at = int(np.flatnonzero(found_B != want_B)[0])
    found, want = found_B[at].item(), want_B[at].item()
    return f"task {int(tasks_B[at])}: the log has {found!r}, replay {want!r}"


class EpochRaces:
    """One epoch, from its opening on."""

    def __init__(self, context: RunContext, *, epoch: int, num_ordinals: int) -> None:
        self._context = context
        self._epoch = epoch
        self._num_lanes = len(context.lane_keys)
        self.lanes = HeapLanes(self._num_lanes, num_ordinals=num_ordinals)
        self.shares: Floats = np.zeros(self._num_lanes)
        self.version = 0
        """The policy version announced last."""
        self.leases: dict[str, Held] = {}
        self._paused = False
        self._fence = 0

    def open(self, opening: LoggedDecision, tasks_N: Ints, weights_NL: Ints) -> None:
        """Load every task with its first entry of the epoch.

        Raises:
            Differs: not the number of tasks, or not the totals, that were loaded.
        """
        if opening.num_waiting != len(tasks_N):
            raise Differs(f"{opening.num_waiting} tasks were loaded; replay has {len(tasks_N)}")
        totals = " ".join(str(total) for total in weights_NL.sum(axis=0).tolist())
        if opening.tasks != totals:
            raise Differs(f"lane totals were {opening.tasks}; the ledger gives {totals}")
        entries_N = np.full(len(tasks_N), self._epoch * ENTRIES_PER_EPOCH, dtype=np.int64)
        draws_NL = np.concatenate(
            [
                draws(self._context, tasks_N[at : at + _CHUNK], entries_N[at : at + _CHUNK])
                for at in range(0, len(tasks_N), _CHUNK)
            ]
            or [np.zeros((0, self._num_lanes))]
        )
        self.lanes.enter(tasks_N, entries_N, weights_NL, draws_NL, load=True)
        self.announce(opening)

    def announce(self, decision: LoggedDecision) -> None:
        """Take over version and shares."""
        self.shares = logged_shares(decision, num_lanes=self._num_lanes)
        self.version = decision.policy_version or 0

    def configure(self, decision: LoggedDecision) -> None:
        """Remember whether the run is paused."""
        self._paused = decision.tasks.split()[1] == "1"

    def rebase(self, decision: LoggedDecision) -> None:
        """Bring one lane's clock back to 0."""
        self.lanes.races[int(decision.tasks) - 1].rebase()

    def reweigh(self, moved: Entered) -> None:
        """Change weights of waiting tasks.

        Raises:
            Differs: one of them does not wait, or waits under another entry number.
        """
        self._check_entries(moved, self.lanes.entries_N[moved.tasks_N])
        if not self.lanes.waits(moved.tasks_N):
            raise Differs("a task was re-weighed that does not wait")
        self.lanes.reweigh(moved.tasks_N, moved.weights_NL)

    def move(self, moved: Entered) -> None:
        """Move tasks that no lease holds into the lanes of their new weights.

        Raises:
            Differs: one of them is leased, or its entry number is not the next one.
        """
        held = {task for lease in self.leases.values() for task in lease.entries}
        leased = [task for task in moved.tasks_N.tolist() if task in held]
        if leased:
            raise Differs(f"task {leased[0]} was moved while it was leased")
        self._check_entries(moved, self.lanes.entries_N[moved.tasks_N] + 1)
        draws_NL = draws(self._context, moved.tasks_N, moved.entries_N)
        self.lanes.move(moved.tasks_N, moved.entries_N, moved.weights_NL, draws_NL)

    def _check_entries(self, found: Entered, want_N: Ints) -> None:
        if np.any(found.entries_N != want_N):
            raise Differs("entry of " + first_of(found.tasks_N, found.entries_N, want_N))

    def draw(self, decision: LoggedDecision) -> int:
        """Draw again and compare; the number of tasks.

        Raises:
            Differs: in tasks, order, lanes, entries, weights, probabilities, fence or version.
        """
        logged = logged_draw(decision)
        if self._paused:
            raise Differs("a paused run drew")
        if decision.fence <= self._fence:
            raise Differs(f"fence {decision.fence} after fence {self._fence}")
        if decision.num_waiting != self.lanes.num_waiting:
            raise Differs(f"{decision.num_waiting} waited; in replay {self.lanes.num_waiting}")
        if decision.policy_version != self.version:
            raise Differs(f"version {decision.policy_version}; announced was {self.version}")
        drawn, weights_BL = self.lanes.draw(self.shares, len(logged.tasks_B))
        entries_B = self.lanes.entries_N[drawn.tasks_B]
        rows = np.arange(len(drawn.tasks_B))
        again = LoggedDraw(
            drawn.tasks_B,
            entries_B,
            drawn.lanes_B.astype(np.int64),
            weights_BL[rows, drawn.lanes_B.astype(np.int64)],
            drawn.probability_B,
        )
        _compare(logged, again)
        self._fence = decision.fence
        held = dict(zip(again.tasks_B.tolist(), entries_B.tolist(), strict=True))
        pairs = zip(again.lanes_B.tolist(), again.weights_B.tolist(), strict=True)
        taken = dict(zip(held, (Taken(*pair) for pair in pairs), strict=True))
        self.leases[decision.lease_id] = Held(decision.fence, self.version, held, taken)
        return len(held)

    def settle(self, decision: LoggedDecision, back: Entered, draws_NL: Floats) -> None:
        """Bring tasks back into their lanes.

        Raises:
            Differs: the lease does not hold them, or their entry numbers are not the next ones.
        """
        held = self.leases.get(decision.lease_id)
        tasks = back.tasks_N.tolist()
        if held is None or held.fence != decision.fence:
            raise Differs(f"{decision.kind} of lease {decision.lease_id}, which is not live")
        missing = [task for task in tasks if task not in held.entries]
        if missing:
            raise Differs(f"{decision.kind} of task {missing[0]}, which is not in the lease")
        want_N = np.array([held.entries[task] + 1 for task in tasks], dtype=np.int64)
        self._check_entries(back, want_N)
        for task in tasks:
            del held.entries[task]
        if not held.entries:
            del self.leases[decision.lease_id]
        self.lanes.enter(back.tasks_N, back.entries_N, back.weights_NL, draws_NL)

    def page_draws(self, page: Mapping[int, Entered]) -> dict[int, Floats]:
        """The exponential numbers of a page's entries, computed together."""
        if not page:
            return {}
        together = draws(
            self._context,
            np.concatenate([one.tasks_N for one in page.values()]),
            np.concatenate([one.entries_N for one in page.values()]),
        )
        ends = np.cumsum([len(one.tasks_N) for one in page.values()])
        return dict(zip(page, np.split(together, ends[:-1]), strict=True))

    def moved(self, decision: LoggedDecision) -> Entered:
        """What a re-weigh wrote."""
        return entered(decision, num_lanes=self._num_lanes)


def _compare(logged: LoggedDraw, again: LoggedDraw) -> None:
    """Raise `Differs` for the first thing in which two draws differ."""
    if logged.tasks_B.tolist() != again.tasks_B.tolist():
        at = int(np.flatnonzero(logged.tasks_B != again.tasks_B)[0])
        raise Differs(
            f"place {at}: the log has task {int(logged.tasks_B[at])}, "
            f"replay task {int(again.tasks_B[at])}"
        )
    for name in ("lanes_B", "entries_B", "weights_B", "probability_B"):
        found, want = getattr(logged, name), getattr(again, name)
        if np.any(found != want):
            what = name.removesuffix("_B")
            raise Differs(f"{what} of {first_of(logged.tasks_B, found, want)}")
