"""Sharded checkpoints in one process: exact, apart from what is learned meanwhile, whole or absent.

Two ranks that write and one that reads are `tests/integration/test_trainer_ranks.py`.
"""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from etude_trainer.batch import Group, decode_batch
from etude_trainer.checkpoint import Captured, CheckpointState, CheckpointStore, capture
from etude_trainer.config import TrainingConfig
from etude_trainer.errors import CheckpointError
from etude_trainer.parity import Parity
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner, learn
from support.tiny_model import save_tiny_model
from support.trajectories import sample_batch

STATE = CheckpointState(
    policy_version=1, lease_id="tb_1", fence=1, weights_uri="/nowhere/1", metrics={}
)
PARITY = Parity(1, [[1, 2]], [[-1.0]])

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
"""Torch's word for one process."""


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


@pytest.fixture
def groups(learner: Learner) -> tuple[Group, ...]:
    frame = sample_batch(learner.policy.module, seed=3, num_groups=2)
    return decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    store = CheckpointStore(tmp_path / "checkpoints")
    store.open()
    return store


def state_of(learner: Learner) -> list[torch.Tensor]:
    """Weights and moments."""
    tensors = [p.detach().clone() for p in learner.policy.parameters()]
    for moments in learner.optimizer.state_dict()["state"].values():
        tensors += [moments[name].clone() for name in sorted(moments)]
    return tensors


def test_shards_hold_the_moment_of_the_capture(
    tiny_dir: Path,
    store: CheckpointStore,
    learner: Learner,
    config: TrainingConfig,
    groups: tuple[Group, ...],
) -> None:
    learn(learner, groups, step=0, progress=quiet)
    want = state_of(learner)
    target = store.begin(STATE)
    captured = capture(learner.policy, learner.optimizer, shards=target.shards)
    learn(learner, groups, step=1, progress=quiet)  # while the files are written
    saved = target.write(captured, PARITY)
    assert not torch.equal(state_of(learner)[0], want[0])
    fresh = build_learner(tiny_dir, config, device="cpu")
    saved.load(fresh.policy, fresh.optimizer)
    assert all(torch.equal(a, b) for a, b in zip(state_of(fresh), want, strict=True))


def test_one_file_holds_the_moment_of_the_capture(
    store: CheckpointStore, learner: Learner, groups: tuple[Group, ...]
) -> None:
    learn(learner, groups, step=0, progress=quiet)
    want = state_of(learner)
    target = store.begin(STATE)
    captured = capture(learner.policy, learner.optimizer)
    learn(learner, groups, step=1, progress=quiet)
    saved = target.write(captured, PARITY)
    saved.load(learner.policy, learner.optimizer)
    assert all(torch.equal(a, b) for a, b in zip(state_of(learner), want, strict=True))


def test_a_part_that_cannot_be_written_leaves_the_former_checkpoint(
    store: CheckpointStore, learner: Learner
) -> None:
    former = store.save(STATE, policy=learner.policy, optimizer=learner.optimizer, parity=PARITY)
    failed: Future[object] = Future()
    failed.set_exception(OSError(28, "No space left on device"))
    target = store.begin(STATE.model_copy(update={"policy_version": 2, "lease_id": "tb_2"}))
    whole = capture(learner.policy, learner.optimizer)
    with pytest.raises(OSError, match="No space left"):
        target.write(Captured(whole.weights, whole.training, failed), PARITY)
    assert store.all() == [former]
    target.abandon()
    assert list(store.folder.iterdir()) == [former.path]


@pytest.mark.parametrize("damage", ["missing", "short", "another model"])
def test_damaged_parts_are_named(
    tmp_path: Path, store: CheckpointStore, learner: Learner, config: TrainingConfig, damage: str
) -> None:
    target = store.begin(STATE)
    saved = target.write(capture(learner.policy, learner.optimizer, shards=target.shards), PARITY)
    part = next((saved.path / "shards").glob("*.distcp"))
    reader = learner
    if damage == "missing":
        shutil.rmtree(saved.path / "shards")
    elif damage == "short":
        part.write_bytes(part.read_bytes()[:100])
    else:
        other = save_tiny_model(tmp_path / "other", vocab_size=64)
        reader = build_learner(other, config, device="cpu")
    with pytest.raises(CheckpointError, match="v000001-tb_1"):
        saved.load(reader.policy, reader.optimizer)
