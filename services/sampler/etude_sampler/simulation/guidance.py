"""Hard sampling of the simulated learner: guided groups, probes, rounds (rules ours).

A guided rollout of the simulated learner is one of a task that is easier by .8 logits in every
component for each demonstration shown; there are demonstrations as soon as other tasks were solved
in an earlier version. Its group teaches like any other. Nothing of this is measured on a language
model, and no other arm has such help: a comparison with this arm says what such help would be worth
if it were so, not that it is. Neighbours: `practice` asks, `curriculum.hard` decides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from etude_sampler.curriculum.allotment import Allotment
from etude_sampler.curriculum.hard import FEW_SHOT, HARD_LANE, PROBE_LANE, HardSampling, Visit
from etude_sampler.leasing import Drawn, Lanes
from etude_sampler.statistics import Bools, Floats, GroupSummary, Ints, TaskStatistics

EASIER = 0.8
"""Logits that a demonstration takes off a task's difficulty (ours)."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """How the tasks of a batch are served."""

    level_B: Ints
    """Demonstrations shown; 0: bare."""
    allotment: Allotment


class Guidance:
    """What hard sampling remembers beside the tasks' notes: who was solved."""

    def __init__(self, lanes: tuple[str, ...], num_tasks: int) -> None:
        """Nobody was solved yet."""
        self._hard, self._probe = lanes.index(HARD_LANE), lanes.index(PROBE_LANE)
        self._solved_N: Bools = np.zeros(num_tasks, np.bool_)
        self._shown_N = self._solved_N.copy()

    def serve(
        self, drawn: Drawn, weights_BL: Ints, hard: HardSampling, *, group_size: int
    ) -> Served:
        """Demonstrations and rollouts of drawn tasks, from their lanes and weights."""
        asked_B = np.array([hard.served(int(w)) for w in weights_BL[:, self._hard]], np.int64)
        others_B = int(np.count_nonzero(self._shown_N)) - self._shown_N[drawn.tasks_B]
        is_guided_B = drawn.lanes_B == self._hard
        owed_B = np.array([hard.served(int(w)) for w in weights_BL[:, self._probe]], np.int64)
        is_probe_B = drawn.lanes_B == self._probe
        num_B = np.where(is_probe_B, owed_B, group_size)
        return Served(
            level_B=np.where(is_guided_B, np.minimum(asked_B, others_B), 0),
            allotment=Allotment(num_B, np.zeros(len(num_B), np.int64), ~is_probe_B),
        )

    def visit(
        self,
        stats: TaskStatistics,
        served: Served,
        tasks_B: Ints,
        *,
        summary: GroupSummary,
        hard: HardSampling,
    ) -> None:
        """Move the tasks' states, in place, and remember who was solved."""
        for row, task in enumerate(tasks_B.tolist()):
            level = int(served.level_B[row])
            visit = Visit(
                ordinal=task,
                kind=FEW_SHOT if level else "none",
                level=level,
                num_valid=int(summary.num_valid_N[row]),
                num_success=int(summary.num_success_N[row]),
            )
            stats.x_NE[task] = hard.visited(stats.x_NE[task], visit)
        self._solved_N[tasks_B[summary.num_success_N > 0]] = True

    def turn(self, lanes: Lanes, weights_NL: Ints) -> None:
        """A new version: what was solved may be shown; tasks change lanes at a round's end.

        Args:
            lanes: of the run; all tasks wait or are parked.
            weights_NL: weights of all tasks now.
        """
        self._shown_N = self._solved_N.copy()
        before_NL = np.stack([race.weights_N for race in lanes.races], axis=1)
        moved_N = np.any((before_NL > 0) != (weights_NL > 0), axis=1)
        moved_N |= np.any(before_NL[:, -2:] != weights_NL[:, -2:], axis=1)
        rows = np.flatnonzero(moved_N)
        lanes.move(rows, weights_NL[rows])


def bare(allotment: Allotment) -> Served:
    """A batch without demonstrations."""
    return Served(np.zeros(len(allotment.num_rollouts_B), np.int64), allotment)


def helped(chances_NK: Floats, tasks_B: Ints, level_B: Ints | Floats) -> Floats:
    """Chances [N, 4] with those of some tasks as if they were easier by `EASIER` logits a level."""
    found = chances_NK.copy()
    odds_B1 = np.exp(EASIER * level_B)[:, None]
    plain_BK = chances_NK[tasks_B]
    found[tasks_B] = plain_BK * odds_B1 / (1.0 - plain_BK + plain_BK * odds_B1)
    return found


def bare_rows(drawn: Drawn, summary: GroupSummary, level_B: Ints) -> tuple[Drawn, GroupSummary]:
    """The un-scaffolded groups of a batch: the only ones that feed statistics."""
    rows = np.flatnonzero(level_B == 0)
    part = Drawn(
        drawn.tasks_B[rows],
        drawn.lanes_B[rows],
        drawn.probability_B[rows],
        drawn.num_waiting,
    )
    columns = {one.name: getattr(summary, one.name)[rows] for one in fields(GroupSummary)}
    return part, GroupSummary(**columns)
