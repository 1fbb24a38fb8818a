"""One step: the same gradient however it is cut, the same weights from run to run, and learning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude_trainer.batch import Group, decode_batch
from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.errors import Stopped
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner, learn, plan_step
from support.trajectories import frame_of, pack, sample, sample_batch, share_below


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def groups_of(learner: Learner, **options: int) -> tuple[Group, ...]:
    frame = sample_batch(learner.policy.module, **options)
    batch = decode_batch(frame.manifest, frame.bodies, vocab_size=512)
    assert not batch.refused
    return batch.groups


def gradient(learner: Learner, groups: tuple[Group, ...]) -> torch.Tensor:
    """What the optimizer would see: the flat gradient of one update before clipping."""
    seen: list[torch.Tensor] = []

    def keep(*_: object) -> None:
        grads = [p.grad for p in learner.policy.parameters() if p.grad is not None]
        seen.append(torch.cat([g.flatten() for g in grads]).clone())

    hook = learner.optimizer.register_step_pre_hook(keep)
    try:
        learn(learner, groups, step=0, progress=quiet)
    finally:
        hook.remove()
    (flat,) = seen
    return flat


BASE = """
[optimizer]
lr = 1e-12
max_grad_norm = 1e9
"""


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "dr_grpo"])
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    max_tokens=st.sampled_from([64, 90, 150, 400]),
    share=st.booleans(),
    chunk=st.sampled_from([1 << 12, 1 << 25]),
    seed=st.integers(0, 3),
)
def test_micro_batches_do_not_change_the_gradient(
    tiny_dir: Path, aggregation: str, *, max_tokens: int, share: bool, chunk: int, seed: int
) -> None:
    objective = f'[objective]\naggregation = "{aggregation}"\nkl_beta = 0.02\nentropy_coef = 0.01\n'
    whole = parse_config(
        f"{BASE}{objective}[batch]\nmicro_batch_tokens = 1000000\nshare_prompts = false\n"
    )
    cut = parse_config(
        f"{BASE}{objective}[batch]\nmicro_batch_tokens = {max_tokens}\n"
        f"share_prompts = {str(share).lower()}\n[model]\nlogits_elements = {chunk}\n"
    )
    one = build_learner(tiny_dir, whole, device="cpu")
    groups = groups_of(one, seed=seed, num_groups=3)
    want = gradient(one, groups)
    many = build_learner(tiny_dir, cut, device="cpu")
    assert len(plan_step(groups, many).updates[0].micro_batches) > (1 if max_tokens < 100 else 0)
    got = gradient(many, groups)
    assert float(want.norm()) > 1e-3
    torch.testing.assert_close(got, want, atol=1e-5 * float(want.abs().max()), rtol=1e-5)


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()]).clone()


def train(
    tiny_dir: Path, config: TrainingConfig, *, num_steps: int
) -> tuple[torch.Tensor, list[float]]:
    learner = build_learner(tiny_dir, config, device="cpu")
    rewards = []
    for step in range(num_steps):
        groups = groups_of(learner, seed=step, version=step, group_size=8)
        metrics = learn(learner, groups, step=step, progress=quiet)
        rewards.append(metrics["reward_mean"])
    return weights(learner), rewards


def test_twenty_steps_are_the_same_from_run_to_run_and_raise_the_reward(tiny_dir: Path) -> None:
    config = parse_config("[optimizer]\nlr = 1e-2\n[batch]\nmicro_batch_tokens = 256\n")
    first, rewards = train(tiny_dir, config, num_steps=20)
    again, same = train(tiny_dir, config, num_steps=20)
    assert torch.equal(first, again)
    assert rewards == same
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.15


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean"])
def test_groups_of_unequal_size_are_normalised_inside_and_both_means_are_logged(
    tiny_dir: Path, aggregation: str
) -> None:
    """C7: a group of 12 rollouts beside one of 3, as budgets make them."""
    config = parse_config(f'{BASE}[objective]\naggregation = "{aggregation}"\n')
    learner = build_learner(tiny_dir, config, device="cpu")
    large = groups_of(learner, seed=1, num_groups=1, group_size=12)
    small = groups_of(learner, seed=2, num_groups=1, group_size=3)
    plan = plan_step((*large, *small), learner)
    assert plan.credit.advantages_S[:12].sum() == pytest.approx(0.0, abs=1e-9)
    assert plan.credit.advantages_S[12:].sum() == pytest.approx(0.0, abs=1e-9)
    metrics = learn(learner, (*large, *small), step=0, progress=quiet)
    own, other = ("token", "group") if aggregation == "token_mean" else ("group", "token")
    assert metrics["loss"] == pytest.approx(metrics[f"loss_{own}_mean"], abs=1e-6)
    assert abs(metrics["loss"] - metrics[f"loss_{other}_mean"]) > 1e-4
    assert (metrics["group_size_min"], metrics["group_size_max"]) == (3.0, 12.0)


def test_mini_batches_and_epochs_are_updates(tiny_dir: Path) -> None:
    config = parse_config(
        "[batch]\nmini_batch_groups = 2\ninner_epochs = 3\n[optimizer]\nlr=1e-3\n"
    )
    learner = build_learner(tiny_dir, config, device="cpu")
    seen: list[tuple[int, int]] = []
    metrics = learn(
        learner,
        groups_of(learner, num_groups=5),
        step=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert metrics["num_updates"] == 9.0
    assert seen == [(n, seen[0][1]) for n in range(seen[0][1])]
    assert metrics["ratio_mean"] != pytest.approx(1.0, abs=1e-6)
    assert metrics["importance_mean"] == pytest.approx(1.0, abs=1e-4)
    assert metrics["kl_rollout"] == pytest.approx(0.0, abs=1e-6)


def test_a_single_update_needs_no_second_pass(learner: Learner) -> None:
    seen: list[int] = []
    groups = groups_of(learner)
    metrics = learn(learner, groups, step=0, progress=lambda _done, total: seen.append(total))
    assert seen == [len(plan_step(groups, learner).updates[0].micro_batches)] * len(seen)
    assert metrics["ratio_mean"] == 1.0


def test_stale_rollouts_are_weighed_by_importance(learner: Learner) -> None:
    stale = groups_of(learner, num_groups=8, group_size=8)
    for step in range(5):
        metrics = learn(learner, stale, step=step, progress=quiet)
    assert metrics["kl_rollout"] > 1e-4
    assert metrics["importance_max"] > 1.05
    assert metrics["logprob_gap_mean"] > 0.01


def test_groups_of_equal_rewards_do_not_move_the_model(tiny_dir: Path) -> None:
    config = parse_config("[objective]\nentropy_coef = 0.0\n[optimizer]\nweight_decay = 0.0\n")
    learner = build_learner(tiny_dir, config, device="cpu")
    rollouts = sample(learner.policy.module, [3, 4, 5], lengths=[4, 6, 2], seed=1)
    frame = frame_of([pack(rollouts, task_id="task_0", reward=lambda _: 0.5)])
    groups = decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups
    before = weights(learner)
    metrics = learn(learner, groups, step=0, progress=quiet)
    assert torch.equal(weights(learner), before)
    assert metrics["grad_norm"] == 0.0
    assert metrics["advantage_abs_mean"] == 0.0


def test_a_batch_without_groups_is_a_step_without_updates(learner: Learner) -> None:
    before = weights(learner)
    metrics = learn(learner, (), step=0, progress=quiet)
    assert metrics["num_updates"] == 0.0
    assert torch.equal(weights(learner), before)


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(learner: Learner) -> None:
    groups = groups_of(learner)
    poisoned = next(iter(learner.policy.parameters()))
    hook = poisoned.register_hook(lambda grad: grad * float("nan"))
    before = weights(learner)
    metrics = learn(learner, groups, step=0, progress=quiet)
    hook.remove()
    assert torch.equal(weights(learner), before)
    assert metrics["num_updates_skipped"] == 1.0
    assert learn(learner, groups, step=0, progress=quiet)["num_updates_skipped"] == 0.0


def test_a_step_can_be_given_up_between_passes(tiny_dir: Path) -> None:
    config = parse_config("[batch]\nmicro_batch_tokens = 64\n")
    learner = build_learner(tiny_dir, config, device="cpu")

    def give_up(done: int, _total: int) -> None:
        if done == 2:
            raise Stopped("enough")

    before = weights(learner)
    with pytest.raises(Stopped):
        learn(learner, groups_of(learner), step=0, progress=give_up)
    assert torch.equal(weights(learner), before)


def test_the_rate_follows_the_schedule(tiny_dir: Path) -> None:
    learner = build_learner(tiny_dir, parse_config("", preset="toolexpander"), device="cpu")
    metrics = learn(learner, groups_of(learner), step=14, progress=quiet)
    assert metrics["lr"] == pytest.approx(7.225e-7)
    assert learner.optimizer.param_groups[0]["lr"] == metrics["lr"]


def test_gradient_checkpointing_gives_the_same_gradient(tiny_dir: Path) -> None:
    plain = build_learner(tiny_dir, parse_config(BASE), device="cpu")
    frugal_config = parse_config(f"{BASE}[model]\ngradient_checkpointing = true\n")
    frugal = build_learner(tiny_dir, frugal_config, device="cpu")
    groups = groups_of(plain)
    torch.testing.assert_close(
        gradient(frugal, groups), gradient(plain, groups), atol=1e-6, rtol=1e-5
    )


def test_the_reward_is_the_tokens_of_small_numbers() -> None:
    assert share_below(128)([1, 2, 300, 400]) == 0.5
