"""One run of an arm in a world: draw, roll out, fold, gate, step (algorithms.md 11, ours).

The arm draws through the same parts that serve real runs: lanes with exponential races, slots by
share, the estimator's fold, weigher, allocator and gate. Batches are not in flight: a batch is
reported before the next is drawn. Neighbours: `leasing.Lanes`, `curriculum`, `metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from etude_sampler.curriculum import (
    Seeing,
    at_pace,
    dated,
    fold_state,
    lane_shares,
    micro,
    start_state,
)
from etude_sampler.curriculum.allotment import Allotment, BudgetInput
from etude_sampler.curriculum.hard import HardSampling
from etude_sampler.leasing import Drawn, Lanes
from etude_sampler.statistics import (
    Bools,
    Floats,
    GroupSummary,
    Ints,
    OutcomeArrays,
    TaskStatistics,
    empty,
    fold,
    summarise,
)

from .climbing import Climber
from .folds import Reported, fold_input
from .guidance import Guidance, Served, bare, bare_rows, helped
from .mastering import MasteryLog
from .plan import Plan
from .pooling import draw_pooled
from .rollout import roll_out, spend
from .standing import make_standing
from .step import Signals, advance, readiness, signals
from .strategies import SUBTASKS, Arm
from .supply import Supply
from .trace import Trace
from .traits import features
from .truth import best
from .world import World, beginner, chances, learner_noise, true_success

INFORMATIVE_VARIANCE = 1e-8
"""A group is informative if its rewards vary by more."""


@dataclass(frozen=True, slots=True, eq=False)
class _Done:
    """What became of one batch."""

    tasks_B: Ints
    informative_B: Bools
    num_rollouts: int


class Practice:
    """A learner, an arm and a world, one batch after another."""

    def __init__(self, arm: Arm, world: World, plan: Plan, *, seed: int) -> None:
        """Everything at the start; `seed` seeds the races and the learner's noise.

        Raises:
            ValueError: the budget does not pay for the arm's offline rollouts.
        """
        self._arm, self._world, self._plan, self._seed = arm, world, plan, seed
        lanes_by, names = arm.curriculum.lanes_by, arm.curriculum.subtasks
        self._standing = make_standing(world, lanes_by, names, seed=seed)
        if self._standing.num_offline > plan.budget:
            raise ValueError(
                f"{arm.name} spends {self._standing.num_offline} rollouts before the first batch"
            )
        self._active_NK: Bools = self._standing.active_NK
        shape = arm.curriculum.shape
        self._stats = empty(len(world.family_N), shape.num_subtasks, shape.fresh)
        self._lanes = Lanes(arm.curriculum.lanes, num_tasks=len(world.family_N), seed=seed)
        self._features_NF = features(world, arm.curriculum.features)
        self._state = start_state(arm.curriculum)
        hard, num_tasks = arm.curriculum.hard, len(world.family_N)
        self._guidance = None if hard is None else Guidance(arm.curriculum.lanes, num_tasks)
        self._climber = Climber(arm.curriculum.scaffold)
        self._batches: list[Reported] = []
        self._skills = beginner()
        self._chances_NK = chances(world, self._skills)
        self._supply = Supply(arm.curriculum.gate)
        self._version = 0
        self._mastery = MasteryLog(world, is_known=not self._standing.by_success)
        self._best_N = self._wanted()
        everyone = np.arange(len(world.family_N))
        self._lanes.enter(everyone, self._weights(everyone))

    def run(self) -> Trace:
        """Spend the budget, up to less than what one task may cost."""
        world = self._world
        last_served_N = np.zeros(len(world.family_N), np.int64)
        rows = [(0, 0, self._success())]
        num_groups = num_informative = spent = 0
        if (screening := self._standing.screening) is not None:
            num_groups, spent = len(screening.reward_NG), self._standing.num_offline
            var_N = screening.reward_NG.var(axis=1)
            num_informative = int(np.count_nonzero(var_N > INFORMATIVE_VARIANCE))
            rows.append((spent, 0, self._success()))
        while (num_tasks := self._affordable(self._plan.budget - spent)) > 0:
            done = self._batch(len(rows), num_tasks)
            last_served_N[done.tasks_B] = len(rows)
            num_groups += len(done.tasks_B)
            num_informative += int(np.count_nonzero(done.informative_B))
            spent += done.num_rollouts
            rows.append((spent, self._version, self._success()))
        rollouts, steps, success = zip(*rows, strict=True)
        return Trace(
            rollouts_B=np.array(rollouts),
            steps_B=np.array(steps),
            success_B=np.array(success),
            num_groups=num_groups,
            num_informative=num_informative,
            last_served_N=last_served_N,
            component_K=np.mean(self._chances_NK, axis=0, where=self._world.active_NK),
            mastery_K=self._mastery.now(self._state),
            held_K=self._mastery.truth(self._chances_NK),
            estimates=self._mastery.estimates(),
        )

    def _success(self) -> float:
        """True mean success over sound tasks."""
        return float(true_success(self._world, self._chances_NK)[self._world.is_sound_N].mean())

    def _affordable(self, left: int) -> int:
        """Tasks of the next batch that `left` rollouts pay for in any case; 0: none."""
        budget, size = self._arm.curriculum.budget, self._plan.group_size
        price = size if budget is None else budget.price(size)
        price += self._climber.price(size, self._version)
        return min(self._plan.batch_tasks, left // price)

    def _serve(self, drawn: Drawn) -> Served:
        """Rollouts and demonstrations of each task, by budget and hard sampling."""
        size, budget, tasks_B = self._plan.group_size, self._arm.curriculum.budget, drawn.tasks_B
        if self._guidance is not None:
            weights_BL = self._weights(tasks_B)
            return self._guidance.serve(drawn, weights_BL, self._hard(), group_size=size)
        if budget is None:
            return bare(Allotment.plain(np.full(len(tasks_B), size, dtype=np.int64)))
        return bare(budget.allot(BudgetInput(self._stats.select(tasks_B), size)))

    def _hard(self) -> HardSampling:
        """Hard sampling at the pace of now."""
        hard = at_pace(self._arm.curriculum, self._state.pace).hard
        assert hard is not None
        return hard

    def _batch(self, batch: int, num_tasks: int) -> _Done:
        """Draw, roll out, report; then step while enough groups are ready."""
        drawn = self._draw(batch, num_tasks)
        self._served = served = self._serve(drawn)
        allotment = served.allotment
        weights_K = np.ones(len(SUBTASKS))
        if not self._standing.by_success:
            weights_K = self._arm.curriculum.allocator.component_weights(self._state)
        noise, chances_NK = learner_noise(self._seed, batch), self._chances_NK
        made = roll_out(
            self._world,
            helped(chances_NK, drawn.tasks_B, served.level_B),
            drawn.tasks_B,
            group_size=int(allotment.num_rollouts_B.max()),
            weights_K=weights_K,
            noise=noise,
        )
        outcomes, stopped_B = spend(made, allotment)
        trained, num_more = self._climber.climb(
            *(self._world, chances_NK, drawn.tasks_B, outcomes),
            weights_K=weights_K,
            version=self._version,
            noise=noise,
        )
        admitted_B, informative_B = self._report(drawn, outcomes, trained)
        kept = np.flatnonzero(admitted_B & ~stopped_B & allotment.train_B)
        taught = signals(self._world.family_N[drawn.tasks_B], trained).select(kept)
        self._supply.add(taught, drawn.tasks_B, kept, version=self._version)
        while (groups := self._supply.next(self._version)) is not None:
            self._step(groups)
        spent = int(np.count_nonzero(outcomes.valid_NG)) + num_more
        return _Done(drawn.tasks_B, informative_B, spent)

    def _draw(self, batch: int, num_tasks: int) -> Drawn:
        """Draw a batch from the lanes, or from a pool of candidates."""
        curriculum = at_pace(self._arm.curriculum, self._state.pace)
        shares_L = lane_shares(curriculum, self._state)
        if curriculum.pool is None:
            return self._lanes.draw(shares_L, num_tasks)
        pooled = draw_pooled(
            curriculum,
            self._lanes,
            self._stats,
            shares_L=shares_L,
            num_tasks=num_tasks,
            seed=self._seed,
            batch=batch,
            version=self._version,
        )
        self._lanes.enter(pooled.back, self._weights(pooled.back))
        return pooled.kept

    def _report(
        self, drawn: Drawn, outcomes: OutcomeArrays, trained: OutcomeArrays
    ) -> tuple[Bools, Bools]:
        """Fold every group, kept or not; let the tasks wait again; gate what is trained."""
        tasks_B = drawn.tasks_B
        summary = summarise(self._standing.scored(outcomes, tasks_B))
        self._fold(*bare_rows(drawn, summary, self._served.level_B), num_groups=len(tasks_B))
        if self._guidance is not None:
            told = (self._stats, self._served, tasks_B)
            self._guidance.visit(*told, summary=summary, hard=self._hard())
        self._lanes.enter(tasks_B, self._weights(tasks_B))
        gate = dated(at_pace(self._arm.curriculum, self._state.pace).gate, self._version)
        if trained is not outcomes:
            summary = summarise(self._standing.scored(trained, tasks_B))
        admitted_B = gate.admit(summary)
        self._supply.hear(gate, tasks_B, summary, admitted_B)
        return admitted_B, summary.reward_var_N > INFORMATIVE_VARIANCE

    def _fold(self, drawn: Drawn, summary: GroupSummary, *, num_groups: int) -> None:
        """Fold un-scaffolded groups into their tasks' statistics."""
        tasks_B = drawn.tasks_B
        old = self._stats.select(tasks_B)
        new = fold(
            old,
            summary,
            version_N=np.full(len(tasks_B), self._version),
            constants=self._arm.curriculum.estimator,
            notes=self._arm.curriculum.notes,
        )
        for column in fields(TaskStatistics):
            getattr(self._stats, column.name)[tasks_B] = getattr(new, column.name)
        self._batches.append(Reported(drawn, summary, old.m_NK, new.m_NK, num_groups))

    def _step(self, groups: Signals) -> None:
        """Train on `groups`: a new policy version."""
        success_N = true_success(self._world, self._chances_NK)
        self._skills = advance(self._skills, groups, readiness(self._world, success_N))
        self._chances_NK = chances(self._world, self._skills)
        self._version += 1
        hard = self._arm.curriculum.hard
        folded = fold_input(
            self._batches,
            self._stats,
            self._features_NF,
            version=self._version,
            live_column=None if hard is None else hard.live_column,
        )
        self._batches = []
        self._state = fold_state(self._arm.curriculum, self._state, folded)
        self._mastery.add(self._chances_NK, self._state)
        self._refresh()

    def _refresh(self) -> None:
        """Re-weigh the waiting tasks whose weight changed without a report."""
        if self._arm.oracle is not None:
            self._best_N = self._wanted()
            tasks = np.arange(len(self._active_NK))
        else:
            age_N = self._version - self._stats.last_N
            tasks = np.flatnonzero(np.isin(age_N, self._arm.curriculum.weigher.refresh_ages))
        weights_NL = self._weights(tasks)
        for lane, race in enumerate(self._lanes.races):
            race.reweigh(tasks, weights_NL[:, lane])
        if self._guidance is not None:
            self._guidance.turn(self._lanes, self._weights(np.arange(len(self._active_NK))))

    def _wanted(self) -> Floats:
        """[N] weights by which an oracle draws the batch that is best now; others: not read."""
        if self._arm.oracle is None:
            return np.zeros(0)
        return best(self._arm.oracle(self._world, self._skills), self._plan.batch_tasks)

    def _weights(self, tasks: Ints) -> Ints:
        """Lane weights [N, 1 + K] in units of 1e-6."""
        active_NK = self._active_NK[tasks]
        if self._arm.oracle is not None:
            weights_NK = active_NK * self._best_N[tasks][:, None]
        else:
            weigher = at_pace(self._arm.curriculum, self._state.pace).weigher
            if isinstance(weigher, Seeing):
                weigher = weigher.seeing(self._features_NF[tasks])
            weights_NK = weigher.weights(
                self._stats.select(tasks), active_NK, version=self._version
            )
        weights_NL = micro(np.concatenate([np.ones((len(tasks), 1)), weights_NK], axis=1))
        if self._guidance is None:
            return weights_NL
        return self._hard().lanes(weights_NL, self._stats.x_NE[tasks])
