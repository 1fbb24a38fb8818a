"""Groups that wait for a step, and the bank that some come back from (algorithms.md 5, 11; ours).

A gate with a bank fills the slots that it leaves empty, batch by batch, as the sampler does when a
training batch is leased. A replayed group teaches what it taught the first time: the simulated
learner knows no staleness beyond the bound. Neighbours: `practice`, `curriculum.banking`.
"""

from __future__ import annotations

from etude_proto.v1.runs import RunLimits
from etude_sampler.curriculum import Gate, bank_of
from etude_sampler.curriculum.banking import Bank, Banked
from etude_sampler.statistics import Bools, Floats, GroupSummary, Ints

from .step import Signals, enough, join

MAX_STALENESS = RunLimits().max_staleness
"""Versions after which a banked group is purged: a run's default."""


class Supply:
    """The ready groups of one run, oldest first, and its bank if the gate keeps one."""

    def __init__(self, gate: Gate) -> None:
        self._ready: Signals | None = None
        self._names: list[Banked] = []
        """The ready groups, in the same order; only in runs with a bank."""
        kept = bank_of(gate)
        self._bank = None if kept is None else Bank(kept[0])
        self._rows: dict[int, Signals] = {}
        """What named groups teach, by their number, wherever they are."""
        self._num_groups = 0
        self._values_B: Floats | None = None
        self._num_dropped = 0

    def hear(self, gate: Gate, tasks_B: Ints, summary: GroupSummary, admitted_B: Bools) -> None:
        """A batch was reported: priorities move, and each dropped group leaves a slot empty."""
        kept = bank_of(gate)
        if self._bank is None or kept is None:
            return
        self._values_B = kept[1].values(summary)
        self._num_dropped = int((~admitted_B).sum())
        for task, value in zip(tasks_B.tolist(), self._values_B.tolist(), strict=True):
            self._bank.note(task, value)

    def add(self, taught: Signals, tasks_B: Ints, rows: Ints, *, version: int) -> None:
        """Groups that the gate kept, then replays for those that it dropped.

        Args:
            taught: what the kept groups teach.
            tasks_B: tasks of the batch that was heard.
            rows: which of them were kept.
            version: the policy version that rolled them out.
        """
        self._ready = taught if self._ready is None else join(self._ready, taught)
        if self._bank is None or self._values_B is None:
            return
        for place, row in enumerate(rows.tolist()):
            self._num_groups += 1
            named = (int(tasks_B[row]), self._num_groups, version, float(self._values_B[row]))
            self._names.append(Banked(*named))
            self._rows[self._num_groups] = taught.select(slice(place, place + 1))
        for one in self._bank.take(self._num_dropped):
            self._names.append(one)
            self._ready = join(self._ready, self._rows[one.apply_seq])

    def next(self, version: int) -> Signals | None:
        """The oldest groups that make a step from `version`; None while there are too few."""
        if self._bank is not None:
            self._forget(self._bank.purge(version - MAX_STALENESS))
        if self._ready is None or (num := enough(self._ready)) is None:
            return None
        groups = self._ready.select(slice(0, num))
        self._ready = self._ready.select(slice(num, None))
        if self._bank is not None:
            trained, self._names = self._names[:num], self._names[num:]
            self._forget(self._bank.put(trained))
        return groups

    def _forget(self, groups: list[Banked]) -> None:
        for one in groups:
            del self._rows[one.apply_seq]
