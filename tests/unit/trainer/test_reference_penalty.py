"""KL in the reward, as ToolRL's released script has it: its trap, and where it acts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from etude_trainer.batch import Group, decode_batch
from etude_trainer.config import AdvantageConfig, ShapingConfig, parse_config
from etude_trainer.learner import Learner
from etude_trainer.service import build_learner
from etude_trainer.stages.credit import batch_credit
from etude_trainer.stages.learn import learn
from support.trajectories import Rollout, frame_of, pack, sample_batch


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def equal_group(*, silent: int | None = None) -> Group:
    """Four rollouts of one reward; one may have sampled nothing."""
    rollouts = [
        Rollout([5, 6], [] if j == silent else [10 + j], [] if j == silent else [-1.0])
        for j in range(4)
    ]
    bodies = [pack(rollouts, task_id="task_a", reward=lambda _: 0.5)]
    (group,) = decode_batch(frame_of(bodies).manifest, bodies, vocab_size=512).groups
    return group


def test_the_trap_noise_at_full_size() -> None:
    """Equal rewards, KL sums of 5, 10, 15 and 20 nats: the specification's advantages."""
    penalty_S = 0.001 * torch.tensor([5.0, 10.0, 15.0, 20.0])
    credit = batch_credit([equal_group()], AdvantageConfig(), ShapingConfig(), penalty_S)
    want = [1.162, 0.387, -0.387, -1.162]
    assert credit.advantages_S.tolist() == pytest.approx(want, abs=5e-4)
    without = batch_credit([equal_group()], AdvantageConfig(), ShapingConfig())
    assert without.advantages_S.tolist() == [0.0] * 4


def test_each_sequence_gets_its_own_penalty_whoever_is_silent() -> None:
    penalty_S = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0])
    groups = [equal_group(silent=1), equal_group()]
    credit = batch_credit(groups, AdvantageConfig(kind="dr_grpo"), ShapingConfig(), penalty_S)
    first, second = [0.75, -0.25, -1.25], [0.75, 0.75, 0.75, -2.25]
    assert credit.advantages_S.tolist() == pytest.approx([*first, *second])


def gradient(learner: Learner, groups: tuple[Group, ...]) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    hook = learner.optimizer.register_step_pre_hook(
        lambda *_: seen.append(
            torch.cat([p.grad.flatten() for p in learner.policy.parameters() if p.grad is not None])
        )
    )
    learn(learner, groups, step=0, progress=quiet)
    hook.remove()
    return seen[-1]


def test_it_takes_nothing_while_the_policy_is_the_reference(tiny_dir: Path) -> None:
    plain, released = (
        build_learner(tiny_dir, parse_config("[optimizer]\nlr = 1e-2\n", preset=name), device="cpu")
        for name in ("toolrl", "toolrl_released")
    )
    frame = sample_batch(plain.policy.module, seed=1)
    groups = decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups
    torch.testing.assert_close(gradient(released, groups), gradient(plain, groups))
    metrics = learn(released, groups, step=1, progress=quiet)
    assert metrics["reference_penalty_mean"] != 0.0
    assert metrics["kl_reference"] > 0.0
    assert "kl_reference" not in learn(plain, groups, step=1, progress=quiet)
