"""Ranks without a sampler: learners that train on the same made-up batches, each in a process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.multiprocessing import get_context

from etude_trainer.batch import decode_batch
from etude_trainer.config import parse_config
from etude_trainer.parallel.crew import ALONE, Crew, join_crew
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from etude_trainer.weight_files import load_into, publishable

from .sampler_app_replica import free_port
from .trainer_process import PRELOADED
from .trajectories import sample_batch

NUM_STEPS = 2


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def train(
    model_dir: Path, text: str, *, crew: Crew = ALONE
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Weights and metrics after some steps, on any crew."""
    learner = build_learner(model_dir, parse_config(text), device="cpu", crew=crew)
    source = build_learner(model_dir, parse_config(""), device="cpu").policy.module
    metrics = []
    for step in range(NUM_STEPS):
        frame = sample_batch(source, seed=step, version=step, num_groups=3)
        batch = decode_batch(frame.manifest, frame.bodies, vocab_size=512)
        metrics.append(learn(learner, batch.groups, step=step, progress=quiet))
    weights = {name: tensor.clone() for name, tensor in publishable(learner.policy).items()}
    load_into(learner.policy, model_dir)  # and back, from whole tensors
    assert all(bool(p.isfinite().all()) for p in learner.policy.parameters())
    return weights, metrics


def _rank(environment: Mapping[str, str], model_dir: Path, texts: Sequence[str], out: Path) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    crew = join_crew(device="cpu")
    results = [train(model_dir, text, crew=crew) for text in texts]
    torch.save(results, out / f"rank{crew.rank}.pt")
    crew.leave()


def train_in_ranks(
    model_dir: Path, texts: Sequence[str], *, num_ranks: int, out: Path
) -> list[list[tuple[dict[str, torch.Tensor], list[dict[str, float]]]]]:
    """The results of every configuration, by rank."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    meeting["WORLD_SIZE"] = str(num_ranks)
    processes = []
    for rank in range(num_ranks):
        environment = {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        arguments = (environment, model_dir, texts, out)
        processes.append(context.Process(target=_rank, args=arguments))
        processes[-1].start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    paths = [out / f"rank{rank}.pt" for rank in range(num_ranks)]
    return [torch.load(path, weights_only=True) for path in paths]
