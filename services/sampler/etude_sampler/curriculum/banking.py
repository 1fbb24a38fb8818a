"""A bank of groups that were trained on, replayed in the slots that the gate left empty.

Section 5, row `vcrl`: priority `P = .9 P + .1 x`, the greatest is popped, at most two replays (form
of the priority ours). What else it takes is our choice: a task has one group in the bank, its
newest; P begins with the group's own x and moves with every later group of the task that is
reported, kept or dropped, while the bank holds the task; equal priorities fall to the newest.

`Bank` is what the scripts of `store/redis` do on a run's keys, and what `simulation` practises
with; a test compares the two. Neighbour: `binding.Banking`, the gates that ask for a bank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

SEQ_SCALE = 2**31
"""Places for apply sequence numbers below one step of priority."""
PRIORITY_SCALE = 1_000_000
"""Steps of priority between 0 and 1; finer differences do not order (our choice)."""


@dataclass(frozen=True, slots=True)
class BankRule:
    """How a run's bank keeps groups; `num_groups` is at least 1."""

    num_groups: int
    """Most groups in the bank."""
    momentum: float
    """What a task's priority keeps of itself when another of its groups is reported."""
    max_replays: int
    """Most times that a group is trained on again."""

    def moved(self, priority: float, value: float) -> float:
        """`P = momentum P + (1 - momentum) x`."""
        return self.momentum * priority + (1.0 - self.momentum) * value


@dataclass(frozen=True, slots=True)
class Banked:
    """A group in the bank, or on its way in or out."""

    ordinal: int
    """Its task."""
    apply_seq: int
    """Its place in the ledger."""
    version: int
    """Oldest policy version of its tokens."""
    priority: float
    num_replays: int = 0
    """Times that it was handed out again."""

    @property
    def rank(self) -> int:
        """The greatest is popped: by priority, then the newest."""
        steps = int(self.priority * PRIORITY_SCALE + 0.5)
        return steps * SEQ_SCALE + self.apply_seq % SEQ_SCALE


class Bank:
    """The groups of one run that may be trained on again."""

    def __init__(self, rule: BankRule) -> None:
        self._rule = rule
        self._held: dict[int, Banked] = {}

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._held)

    def ranked(self) -> list[Banked]:
        """All groups, the greatest first."""
        return sorted(self._held.values(), key=lambda one: one.rank, reverse=True)

    def note(self, ordinal: int, value: float) -> None:
        """Another group of the task was reported, of value x."""
        held = self._held.get(ordinal)
        if held is not None:
            priority = self._rule.moved(held.priority, value)
            self._held[ordinal] = replace(held, priority=priority)

    def put(self, groups: Iterable[Banked]) -> list[Banked]:
        """Take groups in that were trained on, or come back; those that then have no place.

        Of two groups of a task the newer one stays, with the priority of the one that was there.
        """
        out: list[Banked] = []
        for one in sorted(groups, key=lambda group: group.apply_seq % SEQ_SCALE):
            held = self._held.get(one.ordinal)
            if one.num_replays >= self._rule.max_replays:
                out.append(one)
            elif held is None:
                self._held[one.ordinal] = one
            elif held.apply_seq % SEQ_SCALE > one.apply_seq % SEQ_SCALE:
                out.append(one)
            else:
                out.append(held)
                self._held[one.ordinal] = replace(one, priority=held.priority)
        over = self.ranked()[self._rule.num_groups :]
        return out + self._without(over)

    def take(self, num: int) -> list[Banked]:
        """Hand out the greatest, each counted as replayed once more."""
        taken = self._without(self.ranked()[:num])
        return [replace(one, num_replays=one.num_replays + 1) for one in taken]

    def purge(self, oldest: int) -> list[Banked]:
        """Forget what holds tokens of versions before `oldest`."""
        return self._without([one for one in self._held.values() if one.version < oldest])

    def _without(self, groups: list[Banked]) -> list[Banked]:
        for one in groups:
            del self._held[one.ordinal]
        return groups


def slots_to_fill(num_groups: int, *, num_ready: int, num_dropped: int, num_banked: int) -> int:
    """Slots of a training batch that are filled from the bank: what the gate left empty.

    Args:
        num_groups: groups wanted.
        num_ready: groups that the gate kept and nobody has trained on.
        num_dropped: groups that the gate dropped since the last training batch.
        num_banked: groups in the bank.
    """
    return max(0, min(num_groups - num_ready, num_dropped, num_banked))
