"""Reference model of a run's lanes: draw a batch, take it back with fresh draws.

Neighbours: `race` (one lane), `slots` (the deal). The Lua draw and settle scripts are compared
with this model; the simulation uses it as its sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics.arrays import Floats, Ints

from .entries import exponentials, lane_key
from .race import Race
from .slots import allot_slots, slot_probability


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A drawn batch; one row a task, in the order drawn: lane `uniform` first."""

    tasks_B: Ints
    """Task ordinals."""
    lanes_B: Ints
    """Position of the lane whose slot the task took."""
    probability_B: Floats
    """Probability of one slot, at the time of the draw."""
    num_waiting: int
    """Tasks waiting in lane `uniform` at the time of the draw."""


class Lanes:
    """The lanes of one run over the tasks 0..N-1; lane 0 is `uniform`."""

    def __init__(self, names: Sequence[str], *, num_tasks: int, seed: int) -> None:
        """Empty lanes `names`, in lane order, for a run seeded with `seed`."""
        self.races = [Race(num_tasks) for _ in names]
        self.credits_L: Floats = np.zeros(len(names))
        self.entries_N: Ints = np.zeros(num_tasks, np.int64)
        """Next entry number of each task."""
        self._keys = [lane_key(name) for name in names]
        self._seed = seed

    def enter(self, tasks: Ints, weights_NL: Ints) -> None:
        """Enter tasks into every lane in which their weight (units of 1e-6) is above 0 (L5)."""
        draws_NL = exponentials(
            self._seed,
            ordinals_N=tasks,
            entries_N=self.entries_N[tasks],
            lane_keys_L=self._keys,
        )
        self.entries_N[tasks] += 1
        for lane, race in enumerate(self.races):
            race.enter(tasks, weights_NL[:, lane], draws_NL[:, lane])

    def move(self, tasks: Ints, weights_NL: Ints) -> None:
        """Take tasks that wait or are parked out of their lanes and enter them by new weights."""
        for race in self.races:
            race.leave(tasks)
        self.enter(tasks, weights_NL)

    def draw(self, shares_L: Floats, num_tasks: int) -> Drawn:
        """Draw up to `num_tasks` tasks: slots by share, `uniform` first, empty lanes spill.

        A lane that runs empty leaves its remaining slots to `uniform`, then to the first lane
        that still holds a task.
        """
        weights_NL = np.stack([race.weights_N for race in self.races], axis=1).astype(np.float64)
        totals_L = np.array([race.total for race in self.races], dtype=np.float64)
        num_waiting = self.races[0].num_waiting
        slots_L, self.credits_L = allot_slots(shares_L, self.credits_L, num_tasks)
        popped: list[tuple[int, Ints]] = []
        missing = 0
        for lane, num_slots in enumerate(slots_L):
            tasks = self._pop(lane, int(num_slots))
            popped.append((lane, tasks))
            missing += int(num_slots) - len(tasks)
        for lane in range(len(self.races)):
            tasks = self._pop(lane, missing)
            popped.append((lane, tasks))
            missing -= len(tasks)
        tasks_B = np.concatenate([tasks for _, tasks in popped])
        return Drawn(
            tasks_B=tasks_B,
            lanes_B=np.concatenate([np.full(len(tasks), lane) for lane, tasks in popped]),
            probability_B=slot_probability(weights_NL[tasks_B], totals_L, shares_L),
            num_waiting=num_waiting,
        )

    def _pop(self, lane: int, num_tasks: int) -> Ints:
        """Pop from one lane and take the tasks out of all others."""
        tasks = self.races[lane].pop(num_tasks)
        for race in self.races:
            race.leave(tasks)
        self.races[lane].rebase()
        return tasks
