"""A small simulated learner behind the pure core, for tests of the mastery estimator.

Tasks have latent difficulties, skills are given per version, rollouts are a chain of coin flips.
It says nothing about language models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import (
    AllocatorState,
    FoldInput,
    build,
    importance,
    micro,
    resolve,
)
from etude_sampler.curriculum.trend import Trend
from etude_sampler.leasing import Drawn, Lanes
from etude_sampler.statistics import (
    Bools,
    Floats,
    Ints,
    OutcomeArrays,
    TaskStatistics,
    empty,
    fold,
    summarise,
)

from .groups import COMPONENTS


@dataclass(frozen=True, slots=True)
class World:
    """Size and pace of a simulation."""

    num_tasks: int
    batch: int
    num_versions: int
    batches_in_flight: int
    """Batches that stay out while the next are drawn."""
    skill_per_version: float
    """Growth of every skill, in logits."""
    group_size: int = 8
    preset: str = "dscl"


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What happened, V versions."""

    folds: list[FoldInput]
    sums_VK: Floats
    """Sum of the stored EMAs after each version."""
    counts_VK: Ints
    mastery_VK: Floats
    """The allocator's mastery after each version."""
    error_VK: Floats
    """Its standard error."""
    now_VK: Floats
    """Mastery as it is now."""
    now_error_VK: Floats
    """Its standard error."""
    truth_VK: Floats
    """True mean of each component over the tasks that have it."""


def _of_trends(states: list[AllocatorState], read: Callable[[Trend], float]) -> Floats:
    return np.array(
        [[np.nan if one is None else read(one) for one in state.trend_K] for state in states]
    )


class Learner:
    """A run of a curriculum on simulated tasks."""

    def __init__(self, world: World, *, seed: int) -> None:
        """Tasks by ToolRL's shape: 12 % have no call and only the component `format`."""
        self.world, self._chance = world, np.random.default_rng(seed)
        config = CurriculumConfig(preset=world.preset)
        self.curriculum = build(resolve(config, dataset_subtasks=COMPONENTS))
        num = world.num_tasks
        spread = 0.8 * self._chance.standard_normal((num, 1 + len(COMPONENTS)))
        self._difficulty_NK = np.array([-2.5, -0.6, 0.2, 1.0]) + spread[:, :1] + spread[:, 1:]
        self._active_NK: Bools = np.ones((num, len(COMPONENTS)), dtype=np.bool_)
        self._active_NK[self._chance.random(num) < 0.12, 1:] = False
        self.stats = empty(num, len(COMPONENTS))
        self.lanes = Lanes(self.curriculum.lanes, num_tasks=num, seed=seed)
        self._enter(np.arange(num), version=0)

    def run(self) -> Trace:
        """All versions, each one batch."""
        allocator = self.curriculum.allocator
        state = allocator.initial(len(COMPONENTS))
        states, folds, truth, away = [], [], [], []
        for version in range(self.world.num_versions):
            away.append(self.lanes.draw(allocator.shares(state), self.world.batch))
            if len(away) <= self.world.batches_in_flight:
                continue
            chances_NK = self._chances(version)
            folds.append(self._report(away.pop(0), chances_NK, version=version))
            state = allocator.fold(state, folds[-1])
            states.append(state)
            held_NK = np.where(self._active_NK, np.cumprod(chances_NK, axis=1), np.nan)
            truth.append(np.nanmean(held_NK, axis=0))
        return Trace(
            folds=folds,
            sums_VK=np.array([state.S_K for state in states]),
            counts_VK=np.array([state.n_K for state in states]),
            mastery_VK=np.array([state.M_K for state in states]),
            error_VK=np.array([state.se_K for state in states]),
            now_VK=_of_trends(states, lambda trend: trend.now),
            now_error_VK=_of_trends(states, lambda trend: trend.standard_error),
            truth_VK=np.array(truth),
        )

    def _chances(self, version: int) -> Floats:
        """Chance of each component, given that the earlier ones hold."""
        skill = -1.0 + self.world.skill_per_version * version
        chances_NK: Floats = 1.0 / (1.0 + np.exp(self._difficulty_NK - skill))
        return chances_NK

    def _report(self, drawn: Drawn, chances_NK: Floats, *, version: int) -> FoldInput:
        """Roll the batch out, fold it, and let its tasks wait again."""
        tasks, size = drawn.tasks_B, self.world.group_size
        coins = self._chance.random((len(tasks), size, len(COMPONENTS)))
        chain = np.cumprod(coins < chances_NK[tasks][:, None, :], axis=2).astype(np.float64)
        q_NGK = np.where(self._active_NK[tasks][:, None, :], chain, np.nan)
        summary = summarise(
            OutcomeArrays(
                q_NGK=q_NGK,
                reward_NG=np.nansum(q_NGK, axis=2),
                success_NG=np.nanmin(q_NGK, axis=2),
                valid_NG=np.ones((len(tasks), size), dtype=np.bool_),
            )
        )
        old = self.stats.select(tasks)
        new = fold(
            old,
            summary,
            version_N=np.full(len(tasks), version),
            constants=self.curriculum.estimator,
        )
        for column in fields(TaskStatistics):
            getattr(self.stats, column.name)[tasks] = getattr(new, column.name)
        self._enter(tasks, version=version + 1)
        self._refresh(version + 1)
        first_NK = np.isnan(old.m_NK) & ~np.isnan(summary.mean_NK)
        return FoldInput(
            mean_NK=summary.mean_NK,
            prev_NK=np.where(first_NK, summary.mean_NK, old.m_NK),
            new_NK=new.m_NK,
            first_NK=first_NK,
            iota_N=importance(drawn.probability_B, drawn.num_waiting),
            is_control_N=drawn.lanes_B == 0,
            num_acked_batches=version,
            probability_N=drawn.probability_B,
        )

    def _weights(self, tasks: Ints, *, version: int) -> Ints:
        """Lane weights [N, 1 + K] in units of 1e-6."""
        component_NK = self.curriculum.weigher.weights(
            self.stats.select(tasks), self._active_NK[tasks], version=version
        )
        return micro(np.concatenate([np.ones((len(tasks), 1)), component_NK], axis=1))

    def _enter(self, tasks: Ints, *, version: int) -> None:
        self.lanes.enter(tasks, self._weights(tasks, version=version))

    def _refresh(self, version: int) -> None:
        """Re-weigh the waiting tasks whose age makes their weight rise now."""
        age_N = version - self.stats.last_N
        tasks = np.flatnonzero(np.isin(age_N, self.curriculum.weigher.refresh_ages))
        weights_NL = self._weights(tasks, version=version)
        for lane, race in enumerate(self.lanes.races):
            race.reweigh(tasks, weights_NL[:, lane])
