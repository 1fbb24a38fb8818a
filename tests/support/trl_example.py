"""The documented example of TRL as a process: `docs/examples/trl/train.py`, by its arguments.

Run as a script, it starts several at once: the libraries are loaded once, and forked.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from etude_client import EtudeClient
from etude_proto.v1 import Run

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "trl" / "train.py"


@contextmanager
def example(*arguments: str, log: Path, ranks: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """The example at work; killed in the end if it still is."""
    command = [sys.executable, str(EXAMPLE)]
    if ranks > 1:
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command = [sys.executable, *run, str(EXAMPLE)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, *arguments], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def finished(process: subprocess.Popen[bytes], log: Path) -> str:
    """What it printed, once it has ended well."""
    code = process.wait(timeout=240)
    text = log.read_text(errors="replace")
    assert code == 0, text[-3000:]
    return text


def the_run(client: EtudeClient, name: str) -> Run:
    """The run of a name."""
    (found,) = [run for run in client.iter_runs() if run.name == name]
    return found


@contextmanager
def examples(*runs: Sequence[str], logs: Sequence[Path]) -> Iterator[subprocess.Popen[bytes]]:
    """Several examples at work, each with its arguments and log; killed in the end."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    lines = ["\t".join([str(log), *run]) for log, run in zip(logs, runs, strict=True)]
    process = subprocess.Popen(
        [sys.executable, __file__, *lines], env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(lines: Sequence[str]) -> int:
    """Fork one child a line, which holds log and arguments; 0 if all end well."""
    for name in ("datasets", "tokenizers", "torch", "transformers", "trl.trainer.grpo_trainer"):
        importlib.import_module(name)
    children = []
    for line in lines:
        log, *arguments = line.split("\t")
        child = os.fork()
        if child == 0:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.argv = [str(EXAMPLE), *arguments]
            runpy.run_path(str(EXAMPLE), run_name="__main__")
            return 0
        children.append(child)
    return max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
