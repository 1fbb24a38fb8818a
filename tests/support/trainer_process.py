"""Trainer processes for crash tests: the real command line, killable, started in a blink.

Each is a process of its own, forked from a server that has imported torch and `transformers`
once: importing them takes longer than a test's whole story.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

PRELOADED = ["etude_trainer.service", "etude_trainer.app", "etude_trainer.cli", "uvicorn"]
PRELOADED += ["transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto"]


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _main(arguments: Sequence[str], log: Path) -> None:
    """Become the command: its output goes to `log`, its exit code is the process's."""
    from etude_trainer.cli import app

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["etude-trainer", *arguments]
    app()


def start_trainer(arguments: Sequence[str], *, log: Path) -> ForkServerProcess:
    """Run `etude-trainer` with these arguments."""
    process = _context().Process(target=_main, args=(list(arguments), log))
    process.start()
    return process
