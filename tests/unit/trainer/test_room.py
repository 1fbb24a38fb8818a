"""A step that runs out of memory: real allocations that the system refuses, not made-up errors.

The process's own memory is bounded while a step runs, so that its largest tensors cannot be had;
the bound is lifted again afterwards.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from etude_trainer.batch import Group, decode_batch
from etude_trainer.config import parse_config
from etude_trainer.errors import OutOfMemory
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner, learn, plan_step
from etude_trainer.stages.room import is_out_of_memory
from support.trajectories import Rollout, frame_of, pack

MIB = 1 << 20
M_MMAP_THRESHOLD = -3
"""Of `mallopt`."""
NUM_GROUPS, GROUP_SIZE, NUM_TOKENS = 4, 2, 960
CONFIG = """
[optimizer]
lr = 1e-3
[batch]
micro_batch_tokens = {tokens}
share_prompts = false
mini_batch_groups = 2
[objective]
max_gap_nats = 0
[model]
attention = "rows"
"""


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


@pytest.fixture(scope="module")
def groups() -> tuple[Group, ...]:
    """Four groups of two sequences, as long as the model allows."""
    rng = np.random.default_rng(0)
    bodies = []
    for number in range(NUM_GROUPS):
        rollouts = [
            Rollout([5, 6], rng.integers(2, 512, size=NUM_TOKENS - 2).tolist(), [])
            for _ in range(GROUP_SIZE)
        ]
        rollouts = [Rollout(r.prompt, r.completion, [-6.0] * len(r.completion)) for r in rollouts]
        bodies.append(pack(rollouts, task_id=f"task_{number}", reward=lambda c: (c[0] % 8) / 8))
    return decode_batch(frame_of(bodies).manifest, bodies, vocab_size=512).groups


@pytest.fixture(scope="module", autouse=True)
def _heap() -> Iterator[None]:
    """Every tensor of 16 KiB or more is mapped by itself, so that nothing freed earlier is left to
    take in its stead."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_THRESHOLD, 16 << 10)
    yield
    libc.mallopt(M_MMAP_THRESHOLD, 32 * MIB)  # the most that it grows to by itself


@contextmanager
def bounded(spare_mib: int) -> Iterator[None]:
    """Let the process take so much more memory, and no more."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    (held_kib,) = [int(line.split()[1]) for line in status if line.startswith("VmData")]
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, ((held_kib << 10) + spare_mib * MIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def learner_of(folder: Path, *, tokens: int) -> Learner:
    return build_learner(folder, parse_config(CONFIG.format(tokens=tokens)), device="cpu")


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.policy.parameters()]).clone()


def test_a_pass_that_does_not_fit_is_made_again_in_halves(
    tiny_dir: Path, groups: tuple[Group, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """As if the smaller passes had been asked for: same weights, same metrics, remembered."""
    learner = learner_of(tiny_dir, tokens=1 << 20)
    whole = plan_step(groups, learner).largest_pass
    assert whole == NUM_GROUPS // 2 * GROUP_SIZE * NUM_TOKENS
    with bounded(spare_mib=45), caplog.at_level(logging.WARNING):
        metrics = learn(learner, groups, step=0, progress=quiet)
    told = [record for record in caplog.records if record.message == "memory.exhausted"]
    assert told
    fitted = learner.room.max_tokens
    assert fitted is not None
    assert fitted < whole
    assert learner.room.num_halved == len(told)
    assert metrics["micro_batch_tokens"] <= fitted
    small = learner_of(tiny_dir, tokens=max(64, fitted))
    want = learn(small, groups, step=0, progress=quiet)
    assert torch.equal(weights(learner), weights(small))
    assert metrics == want
    again = plan_step(groups, learner)
    assert again.largest_pass <= fitted


def test_a_sequence_that_does_not_fit_alone_ends_the_step(
    tiny_dir: Path, groups: tuple[Group, ...]
) -> None:
    learner = learner_of(tiny_dir, tokens=64)
    before = weights(learner)
    with (
        bounded(spare_mib=1),
        pytest.raises(OutOfMemory, match=r"a single sequence of \d+ tokens does not fit"),
    ):
        learn(learner, groups, step=0, progress=quiet)
    assert torch.equal(weights(learner), before)
    assert not learner.optimizer.state


def test_other_errors_are_not_taken_for_it(tiny_dir: Path, groups: tuple[Group, ...]) -> None:
    learner = learner_of(tiny_dir, tokens=4096)
    poisoned = learner.policy.module.get_input_embeddings().register_forward_hook(_broken)  # type: ignore[operator]
    with pytest.raises(RuntimeError, match="size of tensor"):
        learn(learner, groups, step=0, progress=quiet)
    poisoned.remove()
    assert learner.room.max_tokens is None


def _broken(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
    return output + torch.zeros(7)


def test_what_an_allocator_says_is_recognised() -> None:
    with bounded(spare_mib=16), pytest.raises(RuntimeError) as torch_says:
        torch.zeros(1 << 30)
    assert is_out_of_memory(torch_says.value)
    with bounded(spare_mib=16), pytest.raises(MemoryError) as numpy_says:
        np.ones(1 << 30)
    assert is_out_of_memory(numpy_says.value)
    assert not is_out_of_memory(ValueError("out of memory"))
