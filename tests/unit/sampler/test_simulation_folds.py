"""What a version of the simulated learner folds, and that a version without groups is one too."""

from __future__ import annotations

import numpy as np

from etude_sampler.curriculum import fold_state, start_state
from etude_sampler.curriculum.features import feature_names
from etude_sampler.simulation import make_arm, make_world
from etude_sampler.simulation.folds import fold_input
from etude_sampler.simulation.traits import features
from etude_sampler.statistics import empty


def test_a_version_without_groups_only_adds_doubt() -> None:
    curriculum, world = make_arm("etude").curriculum, make_world(0, num_tasks=50)
    stats = empty(50, 4, curriculum.shape.fresh)
    folded = fold_input([], stats, features(world, curriculum.features), version=1)
    assert folded.num_tasks == 50
    assert len(folded.ordinal_N) == 0
    before = start_state(curriculum)
    after = fold_state(curriculum, before, folded)
    old, new = before.pace["weigher"], after.pace["weigher"]
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    assert new["mean"] == old["mean"]
    assert np.array(new["variance"]).min() > np.array(old["variance"]).max()


def test_simulated_tasks_show_what_the_world_has() -> None:
    world = make_world(0, num_tasks=50)
    names = tuple(feature_names(1))
    values = dict(zip(names, features(world, names).T, strict=True))
    assert np.array_equal(values["source"], world.family_N)
    assert np.allclose(np.expm1(values["num_parameters"]), world.num_params_N)
    assert np.allclose(np.expm1(values["num_calls"]), world.is_call_N)
    assert np.allclose(np.expm1(values["num_subtasks"]), world.active_NK.sum(axis=1))
    assert not values["num_tools"].any()
    assert not values["given_0"].any()
