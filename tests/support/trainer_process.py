"""Trainer processes for crash tests: the real command line, killable, started in a blink.

Each is a process of its own, forked from a server that has imported torch and `transformers`
once: importing them takes longer than a test's whole story.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from .sampler_app_replica import free_port

PRELOADED = ["etude_trainer.service", "etude_trainer.app", "etude_trainer.cli", "uvicorn"]
PRELOADED += ["torch.distributed.checkpoint", "torch.distributed.fsdp"]
PRELOADED += ["transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto"]


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _main(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
    """Become the command: its output goes to `log`, its exit code is the process's."""
    os.environ.update(environment)
    from etude_trainer.cli import app

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["etude-trainer", *arguments]
    app()


def start_trainer(
    arguments: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """Run `etude-trainer` with these arguments."""
    process = _context().Process(target=_main, args=(list(arguments), log, environment or {}))
    process.start()
    return process


def start_ranks(arguments: Sequence[str], *, log: Path, num_ranks: int) -> list[ForkServerProcess]:
    """Run `etude-trainer` as so many ranks, with the variables that `torchrun` sets."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    meeting |= {"WORLD_SIZE": str(num_ranks), "ETUDE_TRAINER_THREADS": "1"}
    return [
        start_trainer(
            arguments,
            log=log.with_name(f"{log.stem}-{rank}{log.suffix}"),
            environment={**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(num_ranks)
    ]
