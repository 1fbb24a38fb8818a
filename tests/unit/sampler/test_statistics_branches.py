"""Branches of a rollout count less: successes and failures times n_roots / G (algorithms.md 8)."""

from __future__ import annotations

import numpy as np
import pytest

from etude_proto.v1 import Attempt, FinishReason, Outcome
from etude_sampler.curriculum.pools.mopps import belief_note
from etude_sampler.curriculum.weighers.arcus import BeliefFold
from etude_sampler.service.outcomes import Columns, root_shares
from etude_sampler.statistics import (
    EstimatorConstants,
    GroupSummary,
    OutcomeArrays,
    empty,
    fold,
    summarise,
)

RIGHT, SIZE, ROOTS = 6, 16, 8
VERSION_N = np.zeros(1, np.int64)


def outcome(*, right: bool) -> Outcome:
    return Outcome(
        components={"format": float(right)},
        reward=float(right),
        success=right,
        finish_reason=FinishReason.STOP,
    )


def attempt(num_roots: int | None) -> Attempt:
    """6 of 16 right, the example of the specification."""
    outcomes = [outcome(right=j < RIGHT) for j in range(SIZE)]
    return Attempt(outcomes=outcomes, num_roots=num_roots)


def summary(num_roots: int | None) -> GroupSummary:
    return summarise(Columns.of([attempt(num_roots)], version=0).arrays(["format"]))


def test_counts_of_the_example() -> None:
    """m = 6, G = 16, n_roots = 8: (3, 5)."""
    stats = fold(empty(1, 1), summary(ROOTS), version_N=VERSION_N, constants=EstimatorConstants())
    assert (stats.s_N.tolist(), stats.f_N.tolist()) == ([3.0], [5.0])
    assert stats.ema_N.tolist() == [RIGHT / SIZE], "a share is a share, however many are roots"


def test_without_branches_nothing_changes() -> None:
    whole, roots = summary(None), summary(SIZE)
    assert whole.root_share_N.tolist() == roots.root_share_N.tolist() == [1.0]
    stats = fold(empty(1, 1), whole, version_N=VERSION_N, constants=EstimatorConstants())
    assert (stats.s_N.tolist(), stats.f_N.tolist()) == ([6.0], [10.0])


def test_beliefs_of_parts_count_alike() -> None:
    before = empty(1, 1)
    prior_N2 = np.ones((1, 2))
    told_N2 = belief_note(1.0).fold(prior_N2, before, summary(ROOTS), VERSION_N) - prior_N2
    assert told_N2.tolist() == [[3.0, 5.0]]
    belief = BeliefFold(drift=0.0)
    _, wide = belief(prior_N2, before, summary(ROOTS), VERSION_N)[0]
    _, narrow = belief(prior_N2, before, summary(None), VERSION_N)[0]
    assert wide > narrow, "half as many independent rollouts leave more in doubt"


def test_the_ledger_remembers_the_roots() -> None:
    packed = Columns.of([attempt(ROOTS), attempt(None)], version=0).compact()
    assert '"num_roots":8' in packed[0]
    assert "num_roots" not in packed[1]
    assert root_shares([ROOTS, None], [SIZE, SIZE]).tolist() == [0.5, 1.0]


def test_shares_belong_to_groups() -> None:
    one = np.ones((2, 1))
    with pytest.raises(ValueError, match="root_share_N"):
        OutcomeArrays(one[:, :, None], one, one, one == 1.0, np.ones(3))


def test_more_roots_than_rollouts_are_refused() -> None:
    with pytest.raises(ValueError, match="num_roots"):
        attempt(SIZE + 1)
