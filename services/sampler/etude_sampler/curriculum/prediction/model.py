"""The item-response model of a run: predict a group of a task, learn from groups (our choice).

Neighbours: `heads`, `difficulty`, `ability` and `design` are its pieces; `weighers.etude` asks it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_sampler.statistics import Bools, Floats

from .ability import Ability, Drift, Observed
from .difficulty import Spreads, ease, moderated
from .heads import Heads, Joint
from .visits import ROLLOUTS, ROLLOUTS_BEFORE, SUCCESS_BEFORE, TIME, TIME_BEFORE


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is remembered of N tasks."""

    mean_NK: Floats
    """Averages of the components; nan where inactive or unseen."""
    success_N: Floats
    """Average success."""
    rollouts_N: Floats
    """Rollouts that the averages are worth; 0: unseen."""
    time_N: Floats
    """Policy version that they are of, on average."""


def task_evidence(mean_NK: Floats, success_N: Floats, visits_NW: Floats) -> Evidence:
    """What is remembered after the last group."""
    return Evidence(mean_NK, success_N, visits_NW[:, ROLLOUTS], visits_NW[:, TIME])


def group_evidence(prev_NK: Floats, visits_NW: Floats) -> Evidence:
    """What was remembered before the last group."""
    return Evidence(
        prev_NK,
        visits_NW[:, SUCCESS_BEFORE],
        visits_NW[:, ROLLOUTS_BEFORE],
        visits_NW[:, TIME_BEFORE],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a rollout of each of N tasks would show now."""

    chance_NH: Floats
    """Chance of each head where its prerequisites hold; 1 where inactive."""
    joint: Joint
    """What they amount to, success first of all."""


@dataclass(frozen=True, slots=True)
class Model:
    """Knobs and heads; the state is passed in and out."""

    heads: Heads
    spreads: Spreads
    drift: Drift

    def predict(
        self, ability: Ability, inputs_ND: Floats, evidence: Evidence, active_NK: Bools
    ) -> Prediction:
        """Chances of the tasks' heads now, for tasks seen and unseen alike."""
        ease_NH, variance_NH = self._ease(ability, inputs_ND, evidence)
        chance_NH = moderated(ability.now(inputs_ND) + ease_NH, variance_NH)
        chance_NH = np.where(self.heads.active(active_NK), chance_NH, 1.0)
        return Prediction(chance_NH, self.heads.join(chance_NH))

    def learn(
        self, ability: Ability, inputs_ND: Floats, before: Evidence, group: Evidence, version: int
    ) -> Ability:
        """The ability after the groups that made policy version `version`.

        Args:
            ability: the belief after the version before.
            inputs_ND: of each group's task.
            before: what was remembered of each task before its group.
            group: what the groups showed: means, success, valid rollouts.
            version: the new version.
        """
        ease_NH, variance_NH = self._ease(ability, inputs_ND, before)
        share_NH, held_NH = self.heads.split(group.mean_NK, group.success_N)
        observed = Observed(
            inputs_JD=inputs_ND,
            ease_JH=ease_NH,
            variance_JH=variance_NH,
            trials_JH=group.rollouts_N[:, None] * share_NH,
            share_JH=np.divide(held_NH, share_NH, out=np.zeros_like(held_NH), where=share_NH > 0),
        )
        return ability.moved(observed, version, self.drift)

    def _ease(
        self, ability: Ability, inputs_ND: Floats, evidence: Evidence
    ) -> tuple[Floats, Floats]:
        """Mean and variance [N, H] of the tasks' own ease."""
        seen_N = evidence.rollouts_N > 0.0
        success_N = np.where(seen_N, evidence.success_N, 0.0)
        share_NH, held_NH = self.heads.split(evidence.mean_NK, success_N)
        rollouts_N1 = evidence.rollouts_N[:, None]
        return ease(
            ability.at(evidence.time_N, inputs_ND),
            rollouts_N1 * share_NH,
            rollouts_N1 * held_NH,
            spreads=self.spreads,
        )
