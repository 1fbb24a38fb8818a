"""When the reference is reset, what that changes, and that a resumed trainer goes on the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from etude_trainer.algorithms.resets import Reason, ResetSettings, ResetState, observe
from etude_trainer.batch import Group, decode_batch
from etude_trainer.checkpoint import Checkpoint, CheckpointState, CheckpointStore
from etude_trainer.config import parse_config
from etude_trainer.learner import Learner
from etude_trainer.parallel.team import Team
from etude_trainer.parity import Parity
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from support.trajectories import sample_batch

PROBE = Parity(1, [[2, 3]], [[-1.0]])


def fired(
    validations: list[float | None],
    kls: list[float | None],
    settings: ResetSettings | None = None,
) -> list[tuple[int, Reason]]:
    """Steps and reasons of the resets in a series."""
    state, found = ResetState(), []
    for step, (validation, kl) in enumerate(zip(validations, kls, strict=True)):
        state, reason = observe(
            state, step=step, validation=validation, kl=kl, settings=settings or ResetSettings()
        )
        if reason is not None:
            found.append((step, reason))
    return found


def rising(num_steps: int) -> list[float | None]:
    return [step / num_steps for step in range(num_steps)]


def test_progress_at_an_even_kl_resets_nothing() -> None:
    assert fired(rising(1000), [0.01] * 1000) == []


def test_stagnation_resets_after_100_steps_but_200_apart() -> None:
    """Best at step 150; 250 would be 100 later, and is more than 200 from the start."""
    validations = rising(151) + [0.5] * 600
    assert fired(validations, [0.01] * 751) == [
        (250, "validation"),
        (450, "validation"),
        (650, "validation"),
    ]


def test_the_first_reset_comes_after_200_steps_too() -> None:
    assert fired([0.5] * 300, [0.01] * 300) == [(200, "validation")]


def test_a_kl_of_three_medians_resets() -> None:
    kls: list[float | None] = [0.01] * 300
    kls[120] = 1.0  # too early
    kls[250] = 0.0301
    kls[270] = 1.0  # too close to the one before
    assert fired(rising(300), kls) == [(250, "kl")]
    kls[250] = 0.0299
    assert fired(rising(300), kls) == [(270, "kl")]


def test_the_median_needs_its_window_after_a_reset() -> None:
    settings = ResetSettings(patience_steps=1000, kl_window=4, min_apart_steps=2)
    kls: list[float | None] = [1.0, 1.0, 1.0, 1.0, 4.0, 100.0, 1.0, 1.0, 1.0, 1.0, 4.0]
    assert fired(rising(11), kls, settings) == [(4, "kl"), (10, "kl")]


def test_steps_without_validation_or_training_say_nothing() -> None:
    assert fired([None] * 500, [None] * 500) == []
    assert fired([None] * 500, [float("nan")] * 500) == []


CONFIG = """
[objective]
kl_beta = 0.1
[optimizer]
lr = 3e-3
[resets]
enabled = true
"""


@pytest.fixture
def batches(tiny_dir: Path) -> list[tuple[Group, ...]]:
    """Batches of five steps, sampled from the model as it was at the start."""
    model = build_learner(tiny_dir, parse_config(""), device="cpu").policy.module
    frames = [sample_batch(model, seed=seed) for seed in range(5)]
    return [decode_batch(f.manifest, f.bodies, vocab_size=512).groups for f in frames]


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def save(store: CheckpointStore, learner: Learner, version: int) -> Checkpoint:
    state = CheckpointState(
        policy_version=version,
        lease_id=f"lease{version}",
        fence=1,
        weights_uri=f"/w/{version}",
        metrics={},
        resets=learner.memory.resets,
        reference=learner.memory.reference,
    )
    return store.save(state, policy=learner.policy, optimizer=learner.optimizer, parity=PROBE)


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()]).clone()


def test_after_a_reset_the_kl_begins_at_zero_and_the_optimizer_anew(
    tiny_dir: Path, batches: list[tuple[Group, ...]]
) -> None:
    learner = build_learner(tiny_dir, parse_config(CONFIG), device="cpu")
    team = Team(learner)
    for step in range(2):
        metrics = learn(learner, batches[step], step=step, progress=quiet)
    assert metrics["kl_reference"] > 1e-4
    team.reset_reference("v000002-lease2")
    assert not learner.optimizer.state
    assert learn(learner, batches[2], step=2, progress=quiet)["kl_reference"] == 0.0


def test_a_resumed_trainer_has_the_reference_and_the_memory_of_its_checkpoint(
    tiny_dir: Path, batches: list[tuple[Group, ...]], tmp_path: Path
) -> None:
    """Reset after step 2, killed after step 4: steps 4 and 5 are bit for bit those without."""
    store = CheckpointStore(tmp_path)
    store.open()
    learner = build_learner(tiny_dir, parse_config(CONFIG), device="cpu")
    whole = Team(learner)
    saved: list[Checkpoint] = []
    for step in range(4):
        learn(learner, batches[step], step=step, progress=quiet)
        if step == 1:
            learner.memory.resets = ResetState(0.5, 1, 1, (0.25,))
            whole.reset_reference("v000002-lease2")
        saved.append(save(store, learner, step + 1))
    store.prune(announced=saved[-1], keep=1)
    assert [one.path.name for one in store.all()] == ["v000002-lease2", "v000004-lease4"]
    resumed = build_learner(tiny_dir, parse_config(CONFIG), device="cpu")
    Team(resumed).load(saved[-1])
    assert resumed.memory.resets == ResetState(0.5, 1, 1, (0.25,))
    want = learn(learner, batches[4], step=4, progress=quiet)
    assert learn(resumed, batches[4], step=4, progress=quiet) == want
    assert torch.equal(weights(resumed), weights(learner))
    # Back to the start: the model's own weights are the reference again.
    Team(resumed).reset()
    fresh = build_learner(tiny_dir, parse_config(CONFIG), device="cpu")
    assert resumed.reference is not None
    assert fresh.reference is not None
    own, first = (one.module.state_dict() for one in (resumed.reference, fresh.reference))
    assert all(torch.equal(own[name], first[name]) for name in first)
    assert resumed.memory.resets == ResetState()


def test_old_checkpoints_know_of_no_reset(tmp_path: Path) -> None:
    text = '{"policy_version": 1, "lease_id": "a", "fence": 1, "weights_uri": "w", "metrics": {}}'
    state = CheckpointState.model_validate_json(text)
    assert (state.reference, state.resets) == (None, ResetState())
    full = state.model_copy(update={"resets": replace(ResetState(), kl=(0.5, 1.0))})
    assert CheckpointState.model_validate_json(full.model_dump_json()) == full
