"""Weigher `etude`: by what a group of the task would teach now, as predicted (our choice).

An online item-response model predicts each component of every task, seen or unseen; the value of
that is signal times gain, sharpened. Neighbours: `curriculum.prediction` is the model,
`group_value` the value; weights follow the model at entry and at `refresh_ages`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field, JsonValue

from etude_sampler.curriculum.parts import Context, Weigher
from etude_sampler.curriculum.prediction import (
    VISITS,
    Ability,
    Design,
    Drift,
    Evidence,
    Model,
    Prediction,
    Spreads,
    group_evidence,
    make_design,
    make_heads,
    task_evidence,
)
from etude_sampler.curriculum.state import FoldInput
from etude_sampler.statistics import Bools, Floats, Ints, Note, TaskStatistics

from .group_sized import GroupSizedConfig
from .group_value import GroupValue, group_value

HEAVIEST = 4000.0
"""Largest weight; lanes count weights in 32 bits of 1e-6."""
REFRESH_AGES = tuple(dict.fromkeys(round(2.0 ** (step / 2.0)) for step in range(21)))
"""1, 2, 3, 4, 6, 8, 11, 16 ... 1024: ability moves, so weights change without a report."""


class EtudeConfig(GroupSizedConfig):
    """Weight by predicted signal times gain: (value / unit)^sharpness, also of unseen tasks."""

    name: ClassVar[str] = "etude"
    paper: ClassVar[str] = "ours"
    state: ClassVar[str] = "m_k, ema, note visits, features, ability of the run"
    notes: ClassVar[tuple[Note, ...]] = (VISITS,)
    reads_features: ClassVar[bool] = True

    sharpness: int = Field(default=4, ge=0, le=16)
    """Power of the value; 0: all tasks alike."""
    partial: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the gain that is progress of components rather than of success."""
    unit: float = Field(default=0.1, gt=0.0, le=1.0)
    """Value of a task of weight 1; no value is above 0.3679."""
    floor: float = Field(default=1e-4, ge=1e-6, le=1.0)
    """Smallest weight: nothing is ever dropped."""
    shared_spread: float = Field(default=1.0, gt=0.0, le=10.0)
    """Prior standard deviation, in log odds, of what a task's components have in common."""
    own_spread: float = Field(default=2.5, gt=0.0, le=10.0)
    """The same of what each component has of its own: gold that is wrong in a part is far off."""
    start_spread: float = Field(default=1.0, gt=0.0, le=10.0)
    """Prior standard deviation of the regression's slopes."""
    drift: float = Field(default=0.055, ge=0.0, le=1.0)
    """Standard deviation by which a policy version may move each slope."""

    def build(self, context: Context) -> Weigher:
        """The weigher before the first version."""
        model = Model(
            heads=make_heads(context.subtasks, context.prerequisites),
            spreads=Spreads(self.shared_spread**2, self.own_spread**2),
            drift=Drift(self.start_spread**2, self.drift**2),
        )
        design = make_design(context.features, num_sources=len(context.sources))
        return EtudeWeigher(
            knobs=self,
            model=model,
            design=design,
            visits=context.notes[VISITS.name],
            ability=Ability.start(len(model.heads), design.width, model.drift),
        )


@dataclass(frozen=True, slots=True)
class EtudeWeigher:
    """The model at one pace, for tasks with known or unknown features."""

    knobs: EtudeConfig
    model: Model
    design: Design
    visits: slice
    """Columns of the note `visits`."""
    ability: Ability
    features_NF: Floats | None = None
    """Features of the tasks asked for; None: unknown."""
    refresh_ages: tuple[int, ...] = REFRESH_AGES

    def start(self) -> JsonValue:
        """The ability before the first version."""
        start = Ability.start(len(self.model.heads), self.design.width, self.model.drift)
        return start.to_json()

    def advance(self, pace: JsonValue, folded: FoldInput) -> JsonValue:
        """The ability after one version's groups; of a task's groups only the last counts."""
        rows = _last_of_each(folded.ordinal_N)
        num_valid_N = folded.num_valid_N[rows].astype(np.float64)
        after = self.model.learn(
            Ability.from_json(pace),
            self._inputs(folded.features_NF[rows] if len(folded.features_NF) else None, len(rows)),
            group_evidence(folded.prev_NK[rows], folded.x_NE[rows, self.visits]),
            Evidence(
                mean_NK=folded.mean_NK[rows],
                success_N=folded.num_success_N[rows] / num_valid_N,
                rollouts_N=num_valid_N,
                time_N=np.full(len(rows), float(folded.num_acked_batches)),
            ),
            folded.num_acked_batches,
        )
        return after.to_json()

    def at(self, pace: JsonValue) -> EtudeWeigher:
        """The weigher at this ability."""
        return replace(self, ability=Ability.from_json(pace))

    def seeing(self, features_NF: Floats) -> EtudeWeigher:
        """The weigher of tasks with these features."""
        return replace(self, features_NF=features_NF)

    def predict(self, stats: TaskStatistics, active_NK: Bools) -> Prediction:
        """What rollouts of these tasks would show now."""
        evidence = task_evidence(stats.m_NK, stats.ema_N, stats.x_NE[:, self.visits])
        inputs_ND = self._inputs(self.features_NF, len(active_NK))
        return self.model.predict(self.ability, inputs_ND, evidence, active_NK)

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K]: the task's where active, else 0.

        Before the first version every head stands at even odds, and tasks would be told apart by
        how many heads they have: so unseen ones are then weighed as if they had all.
        """
        told_NK = active_NK
        if not self.ability.version:
            told_NK = active_NK | (stats.n_N == 0)[:, None]
        value = self._value(self.predict(stats, told_NK), told_NK)
        return np.where(active_NK, self._weight(value)[:, None], 0.0)

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """For example `signal 0.98 x gain 0.17 (chances format 0.99, ...) = value 0.17`, weight."""
        knobs, heads = self.knobs, self.model.heads
        # What a task does not exercise it was never seen with; an unseen one is shown with all.
        seen = int(stats_row.n_N[0])
        active_NK = ~np.isnan(stats_row.m_NK) if seen else np.ones_like(stats_row.m_NK, np.bool_)
        prediction = self.predict(stats_row, active_NK)
        value = self._value(prediction, active_NK)
        chances = ", ".join(
            f"{name} {chance:.2f}"
            for name, chance, has in zip(
                heads.names, prediction.chance_NH[0], heads.active(active_NK)[0], strict=True
            )
            if has
        )
        return (
            f"signal {value.signal_N[0]:.3f} x gain {value.gain_N[0]:.4f} (success "
            f"{prediction.joint.success_N[0]:.2f} predicted from "
            f"{stats_row.x_NE[0, self.visits][1]:.1f} rollouts, each after its prerequisites: "
            f"{chances}); (value {value.value_N[0]:.5f} / {knobs.unit:g})^{knobs.sharpness} "
            f"= {self._weight(value)[0]:.4f}"
        )

    def _value(self, prediction: Prediction, active_NK: Bools) -> GroupValue:
        knobs = self.knobs
        return group_value(prediction, active_NK, group_size=knobs.size, partial=knobs.partial)

    def _weight(self, value: GroupValue) -> Floats:
        """`(value / unit)^sharpness` between floor and the heaviest, by repeated products."""
        ratio_N = value.value_N / self.knobs.unit
        weight_N = np.ones_like(ratio_N)
        for _ in range(self.knobs.sharpness):
            weight_N = weight_N * ratio_N
        clipped_N: Floats = np.clip(weight_N, self.knobs.floor, HEAVIEST)
        return clipped_N

    def _inputs(self, features_NF: Floats | None, num_tasks: int) -> Floats:
        """[N, D]: the constant alone where features are unknown."""
        if features_NF is not None:
            return self.design.inputs(features_NF)
        inputs_ND = np.zeros((num_tasks, self.design.width))
        inputs_ND[:, 0] = 1.0
        return inputs_ND


def _last_of_each(ordinal_N: Ints) -> Ints:
    """Rows of the last group of each task, in order."""
    last = {ordinal: row for row, ordinal in enumerate(ordinal_N.tolist())}
    return np.array(sorted(last.values()), dtype=np.int64)
