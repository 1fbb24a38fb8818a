"""Pools under test: built by name, with candidates whose chance depends on their place alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import JsonValue

from etude_proto.v1.curriculum import CurriculumConfig
from etude_sampler.curriculum import Curriculum, build, resolve
from etude_sampler.curriculum.candidates import Candidates, Chance
from etude_sampler.curriculum.parts import Pool
from etude_sampler.leasing import lane_key, uniforms
from etude_sampler.statistics import Floats, GroupSummary, TaskStatistics, summarise

from .groups import COMPONENTS, outcomes


def groups_of(won: Sequence[int], size: int = 8) -> GroupSummary:
    """A group of each task with so many rollouts right."""
    return summarise(outcomes([{"format": [1.0] * m + [0.0] * (size - m)} for m in won]))


def pooled(name: str, **knobs: JsonValue) -> Curriculum:
    """Uniform draws with this pool, a tenth of them the control arm."""
    config = {"preset": "uniform", "control_share": 0.1, "pool": {"name": name, "knobs": knobs}}
    return build(resolve(CurriculumConfig.model_validate(config), dataset_subtasks=COMPONENTS))


def pool_of(name: str, **knobs: JsonValue) -> Pool:
    """The pool of that name."""
    pool = pooled(name, **knobs).pool
    assert pool is not None
    return pool


def chance_of(num: int, *, seed: int = 5) -> Chance:
    """Numbers of `num` candidates, by seed."""
    everyone = np.arange(num)

    def chance(number: int) -> Floats:
        return uniforms(
            seed, ordinals_N=everyone, entries_N=everyone, key=lane_key("test"), number=number
        )

    return chance


def candidates_of(
    stats: TaskStatistics, *, version: int = 0, **columns: Sequence[float]
) -> Candidates:
    """Tasks as candidates; `prediction` and `pass_rate` of all of them, or of none."""
    num = len(stats.n_N)
    nothing = [np.nan] * num
    return Candidates(
        stats=stats,
        prediction_N=np.array(columns.get("prediction", nothing)),
        pass_rate_N=np.array(columns.get("pass_rate", nothing)),
        version=version,
        chance=chance_of(num),
    )
