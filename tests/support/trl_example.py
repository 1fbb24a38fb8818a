"""The documented example of TRL as a process: `docs/examples/trl/train.py`, by its arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etude_client import EtudeClient
from etude_proto.v1 import Run
from support.tree import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "trl" / "train.py"


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
