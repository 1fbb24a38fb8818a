"""Rounds of a run, how many tasks are hard, and the limit on parked ones (algorithms.md 4.1; ours).

Moved once per policy version, from the groups folded and a census of the tasks whose state is not
plain. A round ends with the version that folds its N-th group, about one pass over the tasks.
Neighbours: `machine` reads round and limit, `multi_round` the shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from etude_sampler.statistics import Floats

from .machine import DUE, ORDINAL, PARKED, SINCE, HardConstants, K, resolved

FREED_NONE = (-1, -1)


@dataclass(frozen=True, slots=True)
class HardPace:
    """What is known of the whole run."""

    round: int = 0
    """Rounds ended so far."""
    num_groups: int = 0
    """Groups folded in this round."""
    last_groups: int = 0
    """Groups of the last version."""
    num_tasks: int = 0
    """N of the run; 0 before the first version."""
    turned_at: int = 0
    """Policy version that ended the last round."""
    freed: tuple[int, int] = FREED_NONE
    """Tasks parked at or before this (round, ordinal) are let back in."""
    num_hard: int = 0
    num_parked: int = 0
    num_due: int = 0
    """Tasks that a probe is owed."""

    def to_json(self) -> dict[str, JsonValue]:
        """As JSON values."""
        return {
            "round": self.round,
            "num_groups": self.num_groups,
            "last_groups": self.last_groups,
            "num_tasks": self.num_tasks,
            "turned_at": self.turned_at,
            "freed": list(self.freed),
            "num_hard": self.num_hard,
            "num_parked": self.num_parked,
            "num_due": self.num_due,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> HardPace:
        """What `to_json` wrote.

        Raises:
            ValueError: not that.
        """
        freed = data.get("freed")
        if not isinstance(freed, list) or len(freed) != 2:
            raise ValueError("the pace of hard sampling has no pair `freed`")
        names = ("round", "num_groups", "last_groups", "num_tasks", "turned_at")
        counts = ("num_hard", "num_parked", "num_due")
        return cls(
            **{name: _whole(data.get(name)) for name in (*names, *counts)},
            freed=(_whole(freed[0]), _whole(freed[1])),
        )

    def advanced(self, num_groups: int, *, num_tasks: int, version: int) -> HardPace:
        """With one version's groups counted; the census is to be taken in the round it says."""
        total = self.num_groups + num_groups
        ended = total // num_tasks
        return replace(
            self,
            round=self.round + ended,
            num_groups=total % num_tasks,
            last_groups=num_groups,
            num_tasks=num_tasks,
            turned_at=version if ended else self.turned_at,
        )


@dataclass(frozen=True, slots=True)
class Census:
    """How many tasks are in which state, and who is let back in for there are too many parked."""

    freed: tuple[int, int]
    num_hard: int
    num_parked: int
    num_due: int


def census(x_NW: Floats, pace: HardPace, *, max_parked: int, constants: HardConstants) -> Census:
    """Count states in the round of `pace`; free the oldest parked tasks above `max_parked`."""
    x = resolved(x_NW, round_now=pace.round, freed=pace.freed, constants=constants)
    parked = x[x[:, K] == PARKED]
    over, freed = len(parked) - max_parked, pace.freed
    if over > 0:
        order = np.lexsort((parked[:, ORDINAL], parked[:, SINCE]))
        last = parked[order[over - 1]]
        freed = (int(last[SINCE]), int(last[ORDINAL]))
    num_free = max(0, over)
    return Census(
        freed=freed,
        num_hard=int(np.count_nonzero(x[:, K] > 0)) + num_free,
        num_parked=len(parked) - num_free,
        num_due=int(np.count_nonzero(x[:, DUE])),
    )


def _whole(value: JsonValue) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} in the pace of hard sampling is no whole number")
    return value
