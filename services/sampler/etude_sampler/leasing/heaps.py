"""The lanes of a run for replay: as `lanes`, but a draw costs what it draws, not what waits.

Neighbours: `lanes` is the model that states the rules; the tests compare the two, and `service`'s
replay drives this one with the decision log. Here as in Redis, equal arrival times go by name.
"""

from __future__ import annotations

import heapq
import math

import numpy as np

from etude_sampler.statistics.arrays import Floats, Ints

from .lanes import Drawn
from .race import arrival
from .slots import allot_slots, slot_probability


class HeapRace:
    """One lane over the ordinals 0..N-1: sorted once when loaded, a heap for what comes after."""

    def __init__(self, num_ordinals: int) -> None:
        """An empty lane at clock 0."""
        self.scores_N: Floats = np.full(num_ordinals, np.inf)
        """Arrival times; infinite where a task does not wait."""
        self.weights_N: Ints = np.zeros(num_ordinals, np.int64)
        """Weights in units of 1e-6; 0 where a task does not wait."""
        self.clock = 0.0
        self.total = 0
        """Sum of the weights of those waiting."""
        self._sorted: Ints = np.zeros(0, np.int64)
        self._sorted_scores: Floats = np.zeros(0)
        self._next = 0
        self._heap: list[tuple[float, str]] = []

    def load(self, tasks: Ints, weights: Ints, exponentials: Floats) -> None:
        """Enter very many tasks at once; those of weight 0 stay outside."""
        racing = weights > 0
        inside = tasks[racing]
        self.weights_N[inside] = weights[racing]
        self.scores_N[inside] = arrival(self.clock, exponentials[racing], weights[racing])
        self.total += int(weights[racing].sum())
        self._sort()

    def _sort(self) -> None:
        """Order everyone who waits; the heap starts anew."""
        waiting = np.flatnonzero(self.weights_N)
        names = waiting.astype("S20")
        order = np.lexsort((names, self.scores_N[waiting]))
        self._sorted = waiting[order]
        self._sorted_scores = self.scores_N[self._sorted]
        self._next, self._heap = 0, []

    def enter(self, tasks: Ints, weights: Ints, exponentials: Floats) -> None:
        """Enter tasks with their draws; those of weight 0 stay outside (L1, L5)."""
        racing = weights > 0
        inside, mine = tasks[racing], weights[racing]
        scores = arrival(self.clock, exponentials[racing], mine)
        self.weights_N[inside], self.scores_N[inside] = mine, scores
        self.total += int(mine.sum())
        for task, score in zip(inside.tolist(), scores.tolist(), strict=True):
            heapq.heappush(self._heap, (score, str(task)))

    def leave(self, tasks: Ints) -> None:
        """Take tasks out; what points to them is skipped later."""
        self.total -= int(self.weights_N[tasks].sum())
        self.scores_N[tasks] = np.inf
        self.weights_N[tasks] = 0

    def first(self, k: int) -> Ints:
        """The `k` earliest tasks (fewer if fewer wait), in order; the clock moves to the last."""
        found: list[int] = []
        scores = self.scores_N
        while len(found) < k:
            early, late = self._peek_sorted(), self._peek_heap()
            if early is None and late is None:
                break
            if late is None or (early is not None and early < late):
                assert early is not None
                self._next += 1
                score, name = early
            else:
                score, name = heapq.heappop(self._heap)
            task = int(name)
            if scores[task] == score and (not found or task != found[-1]):
                found.append(task)
                self.clock = max(self.clock, score)
        return np.array(found, dtype=np.int64)

    def _peek_sorted(self) -> tuple[float, str] | None:
        while self._next < len(self._sorted):
            task, score = int(self._sorted[self._next]), float(self._sorted_scores[self._next])
            if self.scores_N[task] == score:
                return score, str(task)
            self._next += 1
        return None

    def _peek_heap(self) -> tuple[float, str] | None:
        while self._heap:
            score, name = self._heap[0]
            if self.scores_N[int(name)] == score:
                return score, name
            heapq.heappop(self._heap)
        return None

    def reweigh(self, tasks: Ints, weights: Ints) -> None:
        """Change weights of waiting tasks without a draw (L4); a weight of 0 takes one out."""
        old = self.weights_N[tasks]
        self.leave(tasks[(old > 0) & (weights == 0)])
        moved = (old > 0) & (weights > 0) & (weights != old)
        rows, new, before = tasks[moved], weights[moved], old[moved]
        scores = self.clock + (self.scores_N[rows] - self.clock) * before / new
        self.scores_N[rows], self.weights_N[rows] = scores, new
        self.total += int(new.sum() - before.sum())
        for task, score in zip(rows.tolist(), scores.tolist(), strict=True):
            heapq.heappush(self._heap, (score, str(task)))

    def rebase(self) -> None:
        """Subtract the clock from all arrival times (L6)."""
        self.scores_N -= self.clock
        self.clock = 0.0
        self._sort()


class HeapLanes:
    """The lanes of one epoch; lane 0 is `uniform`."""

    def __init__(self, num_lanes: int, *, num_ordinals: int) -> None:
        """Empty lanes for the ordinals below `num_ordinals`."""
        self.races = [HeapRace(num_ordinals) for _ in range(num_lanes)]
        self.credits_L: Floats = np.zeros(num_lanes)
        self.entries_N: Ints = np.full(num_ordinals, -1, np.int64)
        """Entry number of each task's present or last stay; -1: never entered."""
        self.num_waiting = 0

    def enter(
        self, tasks: Ints, entries: Ints, weights_NL: Ints, draws_NL: Floats, *, load: bool = False
    ) -> None:
        """Enter tasks under their entry numbers; `load` for very many at once."""
        self.entries_N[tasks] = entries
        self.num_waiting += int(np.count_nonzero(weights_NL[:, 0]))
        for lane, race in enumerate(self.races):
            step = race.load if load else race.enter
            step(tasks, weights_NL[:, lane], draws_NL[:, lane])

    def move(self, tasks: Ints, entries: Ints, weights_NL: Ints, draws_NL: Floats) -> None:
        """Take tasks that wait or are parked out of their lanes and enter them by new weights."""
        self.num_waiting -= int(np.count_nonzero(self.races[0].weights_N[tasks]))
        for race in self.races:
            race.leave(tasks)
        self.enter(tasks, entries, weights_NL, draws_NL)

    def waits(self, tasks: Ints) -> bool:
        """Whether all of them stand in lane `uniform`, as every waiting task does."""
        return bool(np.all(self.races[0].weights_N[tasks] > 0))

    def draw(self, shares_L: Floats, num_tasks: int) -> tuple[Drawn, Ints]:
        """As `Lanes.draw`, without rebasing; and each task's weights [B, L] before."""
        totals_L = np.array([race.total for race in self.races], dtype=np.float64)
        num_waiting = self.num_waiting
        slots_L, self.credits_L = allot_slots(shares_L, self.credits_L, num_tasks)
        popped: list[tuple[int, Ints, Ints]] = []
        missing = 0
        for lane, num_slots in [*enumerate(slots_L.tolist()), (0, math.inf)]:
            wanted = missing if num_slots == math.inf else int(num_slots)
            tasks = self.races[lane].first(wanted)
            weights_BL = np.stack([race.weights_N[tasks] for race in self.races], axis=1)
            for race in self.races:
                race.leave(tasks)
            popped.append((lane, tasks, weights_BL))
            missing += wanted - len(tasks)
        tasks_B = np.concatenate([tasks for _, tasks, _ in popped])
        weights_BL = np.concatenate([weights for *_, weights in popped])
        self.num_waiting -= len(tasks_B)
        drawn = Drawn(
            tasks_B=tasks_B,
            lanes_B=np.concatenate([np.full(len(tasks), lane) for lane, tasks, _ in popped]),
            probability_B=slot_probability(weights_BL.astype(np.float64), totals_L, shares_L),
            num_waiting=num_waiting,
        )
        return drawn, weights_BL

    def reweigh(self, tasks: Ints, weights_NL: Ints) -> None:
        """Change the weights of waiting tasks in every lane."""
        for lane, race in enumerate(self.races):
            race.reweigh(tasks, weights_NL[:, lane])
