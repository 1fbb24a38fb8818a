"""Features of the simulated tasks, as a weigher may read them of real ones.

What the world does not have (tools on offer, characters, turns) is 0. Neighbours: `world` makes the
tasks, `practice` shows their features.
"""

from __future__ import annotations

import numpy as np

from etude_sampler.curriculum.features import SOURCE
from etude_sampler.statistics import Floats

from .world import FAMILY_OFFSETS, World

FAMILIES = tuple(f"family_{f}" for f in range(len(FAMILY_OFFSETS)))
"""Sources of the simulated tasks, by index."""


def features(world: World, names: tuple[str, ...]) -> Floats:
    """[N, F] features of all tasks: gold calls and parameters, sub-tasks, and the family."""
    is_call_N = world.is_call_N.astype(np.float64)
    known = {
        "num_calls": np.log1p(is_call_N),
        "num_parameters": np.log1p(world.num_params_N),
        "num_subtasks": np.log1p(world.active_NK.sum(axis=1)),
        SOURCE: world.family_N.astype(np.float64),
    }
    values_NF = np.zeros((len(is_call_N), len(names)))
    for column, name in enumerate(names):
        if name in known:
            values_NF[:, column] = known[name]
    return values_NF
