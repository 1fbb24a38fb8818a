"""The inputs of the regression: a constant, the task's source, its features at a common scale.

Counts come as log1p and are centred where tool-use tasks usually lie, so that the constant stays
the ability at a usual task; what users give is bounded. Neighbours: `ability` learns a slope for
each input, `curriculum.features` names the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from etude_sampler.curriculum.features import SOURCE
from etude_sampler.statistics import Floats

MAX_SOURCES = 16
"""Sources with an ability of their own: the first ones; the others share the constant."""
BOUND = 4.0
"""Inputs are cut at this distance from 0."""
_USUAL: Mapping[str, float] = MappingProxyType(
    {
        "num_tools": 1.4,
        "num_calls": 0.7,
        "num_parameters": 1.1,
        "prompt_characters": 6.0,
        "num_turns": 0.7,
        "num_subtasks": 1.4,
    }
)
"""log1p of usual counts: 3 tools, 1 call, 2 parameters, 400 characters, 1 turn, 3 sub-tasks."""


@dataclass(frozen=True, slots=True)
class Design:
    """How the features of a task become D inputs."""

    source: int | None
    """Column of the source among the features; None: unknown."""
    num_sources: int
    numeric: tuple[int, ...]
    """Columns of the others."""
    centres: tuple[float, ...]

    @property
    def width(self) -> int:
        """D."""
        return 1 + self.num_sources + len(self.numeric)

    def inputs(self, features_NF: Floats) -> Floats:
        """[N, D]: 1, which source, then the centred features."""
        num_tasks = len(features_NF)
        columns = [np.ones(num_tasks)]
        if self.source is not None:
            source_N = features_NF[:, self.source]
            columns += [(source_N == i).astype(np.float64) for i in range(self.num_sources)]
        for column, centre in zip(self.numeric, self.centres, strict=True):
            columns.append(np.clip(features_NF[:, column] - centre, -BOUND, BOUND))
        return np.stack(columns, axis=1)


def make_design(features: Sequence[str], *, num_sources: int) -> Design:
    """The design of a run's features; a single source says nothing and gets no input."""
    source = features.index(SOURCE) if SOURCE in features and num_sources > 1 else None
    numeric = tuple(i for i, name in enumerate(features) if name != SOURCE)
    return Design(
        source=source,
        num_sources=0 if source is None else min(num_sources, MAX_SOURCES),
        numeric=numeric,
        centres=tuple(_USUAL.get(features[i], 0.0) for i in numeric),
    )
