"""Ranks without a sampler: learners that train on the same made-up batches, each in a process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import torch
from torch.multiprocessing import get_context

from etude_trainer.batch import Group, decode_batch
from etude_trainer.config import parse_config
from etude_trainer.learner import Learner
from etude_trainer.parallel.crew import ALONE, Crew, join_crew
from etude_trainer.parity import measure
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from etude_trainer.weight_files import load_into, publishable

from .sampler_app_replica import free_port
from .trainer_process import PRELOADED
from .trajectories import sample_batch

NUM_STEPS = 2
PROBE = [[5, 6, 7, 8, 9, 10], [20, 30, 40]]

Weights = dict[str, torch.Tensor]
T = TypeVar("T")


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


@cache
def batch_of(model_dir: Path, step: int) -> tuple[Group, ...]:
    """The batch of a step, sampled from the model directory's weights."""
    source = build_learner(model_dir, parse_config(""), device="cpu").policy.module
    frame = sample_batch(source, seed=step, version=step, num_groups=3)
    return decode_batch(frame.manifest, frame.bodies, vocab_size=512).groups


def weights_of(learner: Learner) -> Weights:
    """Whole weights, on every rank; a copy."""
    return {name: tensor.clone() for name, tensor in publishable(learner.policy).items()}


def probed(learner: Learner, dtype: torch.dtype) -> list[float]:
    """The parity probe's log-probabilities."""
    parity = measure(learner.policy, PROBE, policy_version=1, dtype=dtype)
    return [value for row in parity.logprobs for value in row]


def train(
    model_dir: Path, text: str, *, crew: Crew = ALONE
) -> tuple[Weights, list[dict[str, float]], list[float]]:
    """Weights, metrics and probes (as published in bfloat16, and in float32) after some steps, on
    any crew."""
    learner = build_learner(model_dir, parse_config(text), device="cpu", crew=crew)
    metrics = []
    probes: list[float] = []
    for step in range(NUM_STEPS):
        groups = batch_of(model_dir, step)
        metrics.append(learn(learner, groups, step=step, progress=quiet))
        for dtype in (torch.bfloat16, torch.float32):
            probes += probed(learner, dtype)
    weights = weights_of(learner)
    if not learner.policy.is_adapter:
        load_into(learner.policy, model_dir)  # and back, from whole tensors
    assert all(bool(p.isfinite().all()) for p in learner.policy.parameters())
    return weights, metrics, probes


def _rank(environment: Mapping[str, str], work: Callable[[Crew], object], out: Path) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    crew = join_crew(device="cpu")
    torch.save(work(crew), out / f"rank{crew.rank}.pt")
    crew.leave()


def in_ranks(work: Callable[[Crew], T], *, num_ranks: int, out: Path) -> list[T]:
    """What every rank's work gives; `work` can be pickled, and so can tensors and numbers."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    meeting["WORLD_SIZE"] = str(num_ranks)
    processes = []
    for rank in range(num_ranks):
        environment = {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(context.Process(target=_rank, args=(environment, work, out)))
        processes[-1].start()
    for process in processes:
        process.join(240)
    try:
        assert [process.exitcode for process in processes] == [0] * num_ranks
    finally:
        for process in processes:
            process.kill()
    paths = [out / f"rank{rank}.pt" for rank in range(num_ranks)]
    return [torch.load(path, weights_only=True) for path in paths]


def _all_of(
    model_dir: Path, texts: Sequence[str], crew: Crew
) -> list[tuple[Weights, list[dict[str, float]], list[float]]]:
    return [train(model_dir, text, crew=crew) for text in texts]


def train_in_ranks(
    model_dir: Path, texts: Sequence[str], *, num_ranks: int, out: Path
) -> list[list[tuple[Weights, list[dict[str, float]], list[float]]]]:
    """The results of every configuration, by rank."""
    return in_ranks(partial(_all_of, model_dir, list(texts)), num_ranks=num_ranks, out=out)
