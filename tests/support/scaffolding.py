"""Scaffolds as a run has them, and drawn tasks to help with, for unit tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from etude_proto.v1 import Aids, CurriculumConfig, Message, Part
from etude_sampler.curriculum import build, resolve
from etude_sampler.curriculum.scaffolding import Scaffolding, Situation


def scaffold(name: str, **knobs: object) -> Scaffolding:
    """A scaffold as a run has it."""
    part = Part.model_validate({"name": name, "knobs": knobs})
    config = CurriculumConfig(preset="uniform", scaffold=part)
    found = build(resolve(config, dataset_subtasks=["format"])).scaffold
    assert found is not None
    return found


def situation(
    aids: Aids,
    *,
    version: int = 100,
    last_success: int | None = None,
    text: str = "",
    numbers: Sequence[float] = (),
    others: Sequence[str] = (),
) -> Situation:
    """A drawn task with one user turn."""
    return Situation(
        messages=[Message(role="user", content=text)],
        aids=aids,
        version=version,
        num_rollouts=8,
        last_success=last_success,
        numbers=np.array(numbers, dtype=np.float64),
        strangers=others,
    )
