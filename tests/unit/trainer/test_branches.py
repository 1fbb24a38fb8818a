"""Shared prefixes of branches: whose advantage their tokens get, and that soft changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from etude_trainer.algorithms.branches import hard_advantages, roots_of, shared_lengths
from etude_trainer.batch import Group, TokenSequence
from etude_trainer.config import AdvantageConfig, ShapingConfig
from etude_trainer.stages.credit import batch_credit

REWARDS = (4.0, 1.0, 0.0, 3.0)
"""Of a root, its branch, a branch of that, and another root."""
PARENTS = (-1, 0, 1, -1)
TOKENS = ([1, 2, 3, 4], [1, 2, 3, 9, 8], [1, 2, 3, 9, 7], [1, 2, 3, 4])
"""One prompt token, then what was said; the other root says the same by chance."""


def sequence(tokens: list[int]) -> TokenSequence:
    ids = np.array(tokens, dtype=np.int32)
    return TokenSequence(ids, np.arange(len(ids)) >= 1, np.zeros(len(ids), np.float32))


def group(roots: tuple[int, ...]) -> Group:
    return Group(
        task_id="task",
        lane="uniform",
        staleness=0,
        rewards_G=REWARDS,
        rule_rewards_G=REWARDS,
        successes_G=(True, False, False, False),
        components={},
        sequences=tuple(sequence(one) for one in TOKENS),
        roots_G=roots,
    )


def test_roots_are_found_through_branches_of_branches() -> None:
    assert roots_of(PARENTS) == (0, 0, 0, 3)
    assert roots_of([-1, 2, 0]) == (0, 0, 0)
    with pytest.raises(ValueError, match="itself"):
        roots_of([1, 0])


def test_prefixes_are_shared_within_a_family_only() -> None:
    shared_GG = shared_lengths([np.array(one, dtype=np.int32) for one in TOKENS], (0, 0, 0, 3))
    assert shared_GG.tolist() == [[4, 3, 3, 0], [3, 5, 4, 0], [3, 4, 5, 0], [0, 0, 0, 4]]


def test_shared_tokens_get_the_mean_of_those_that_go_through_them() -> None:
    """By hand: advantages 2, -1, -2, 1; tokens 2 and 3 of the family are gone through by three."""
    credit = batch_credit(
        [group(roots_of(PARENTS))],
        AdvantageConfig(kind="dr_grpo", shared_prefix="hard"),
        ShapingConfig(),
    )
    assert credit.advantage_N is not None
    want = [-1 / 3, -1 / 3, 2]
    want += [-1 / 3, -1 / 3, -1.5, -1]
    want += [-1 / 3, -1 / 3, -1.5, -2]
    want += [1, 1, 1]
    assert credit.advantage_N.tolist() == pytest.approx(want)


@pytest.mark.parametrize(("roots", "shared"), [((0, 0, 0, 3), "soft"), ((), "hard"), ((), "soft")])
def test_soft_and_groups_without_branches_keep_one_advantage_a_rollout(
    roots: tuple[int, ...], shared: str
) -> None:
    config = AdvantageConfig.model_validate({"kind": "dr_grpo", "shared_prefix": shared})
    credit = batch_credit([group(roots)], config, ShapingConfig())
    assert credit.advantage_N is None
    assert credit.advantages_S.tolist() == [2.0, -1.0, -2.0, 1.0]


def test_groups_without_branches_beside_others_are_as_they_were() -> None:
    config = AdvantageConfig(kind="dr_grpo", shared_prefix="hard")
    credit = batch_credit([group(()), group(roots_of(PARENTS))], config, ShapingConfig())
    assert credit.advantage_N is not None
    assert credit.advantage_N[:14].tolist() == pytest.approx(
        [2.0] * 3 + [-1.0] * 4 + [-2.0] * 4 + [1.0] * 3
    )


def test_the_sum_over_copies_is_kept() -> None:
    """Hard moves credit between copies of a token, it makes none."""
    chance = torch.Generator().manual_seed(0)
    advantages_G = torch.randn(3, generator=chance, dtype=torch.float64)
    shared_GG = np.array([[6, 4, 2], [4, 6, 2], [2, 2, 6]])
    positions = [np.arange(6)] * 3
    tokens_3T = torch.stack(hard_advantages(advantages_G, shared_GG, positions))
    assert torch.allclose(tokens_3T.sum(dim=0), advantages_G.sum().expand(6))
