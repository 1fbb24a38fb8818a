"""What tasks are to a run's lanes and weigher: the lanes that they stand in, their features.

Neighbours: `entering` and `weighing` ask for the tasks of a step, `lane_loads` and `replay` for
chunks of all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from etude_sampler.curriculum import Curriculum
from etude_sampler.curriculum.features import FEATURES
from etude_sampler.curriculum.levels import UNKNOWN, level_name
from etude_sampler.datasets.features import features_of_body
from etude_sampler.statistics import Floats

from ..ports.catalog import TaskFeatures, TaskRow

_COMMON = len(FEATURES)


def members(curriculum: Curriculum, task: TaskRow) -> tuple[str, ...]:
    """Component lanes that a task stands in, in any order."""
    if curriculum.lanes_by == "source":
        return (task.source,)
    if curriculum.lanes_by == "level":
        return (level_name(orjson.loads(task.body)["metadata"].get("pass_rate")) or UNKNOWN,)
    return task.subtasks


def features_of(curriculum: Curriculum, tasks: Sequence[TaskRow]) -> Floats | None:
    """[N, F] features of tasks; None if the weigher reads none."""
    if not curriculum.features:
        return None
    packed = [task.features or features_of_body(task.body) for task in tasks]
    return feature_rows(curriculum, [task.source for task in tasks], packed)


def feature_rows(
    curriculum: Curriculum, sources: Sequence[str], packed: Sequence[bytes]
) -> Floats | None:
    """[N, F] features in the order of `curriculum.features`; None if the weigher reads none.

    Args:
        curriculum: the run's.
        sources: [N] sources of the tasks.
        packed: [N] their stored features, at least as many as the run reads.
    """
    if not curriculum.features:
        return None
    width = len(curriculum.features) - 1
    index = {name: i for i, name in enumerate(curriculum.sources)}
    stored_NW = np.array(
        [np.frombuffer(one, dtype="<f8", count=width) for one in packed], dtype=np.float64
    ).reshape(len(packed), width)
    source_N = np.array([index[name] for name in sources], dtype=np.float64)
    return np.concatenate(
        [stored_NW[:, :_COMMON], source_N[:, None], stored_NW[:, _COMMON:]], axis=1
    )


def features_at(curriculum: Curriculum, found: Sequence[TaskFeatures]) -> Floats:
    """[N, F] features of tasks as the store gives them; F = 0 if the weigher reads none."""
    sources, packed = [one.source for one in found], [one.features for one in found]
    rows_NF = feature_rows(curriculum, sources, packed)
    return np.zeros((len(found), 0)) if rows_NF is None else rows_NF


def scored_lanes(
    curriculum: Curriculum, tasks: Sequence[TaskRow]
) -> tuple[tuple[str, ...], ...] | None:
    """Of each task the lanes that are scored by success; None: lanes are scored components."""
    if curriculum.lanes_by == "subtasks":
        return None
    return tuple(members(curriculum, task) for task in tasks)
