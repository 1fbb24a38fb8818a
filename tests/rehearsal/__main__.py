"""Rehearse docker-compose.yml: `PYTHONPATH=tests python -m rehearsal [--work FOLDER]`.

    bases -> our images -> a namespace -> up -> a batch, a step -> kill -9 each -> down -v

Exit codes: 0 it holds, or it was skipped, with the reason; 1 it does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from .bases import ROOT, make_bases
from .engine import Engine
from .images import build_images, sizes
from .needs import missing
from .scene import play
from .shell import Failed, Shell, say

NAMESPACES = (
    *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"),
    *("--mount-proc", "--propagation", "private"),
)
PATIENCE_S = 90


def _interrupted(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(signum, frame)


def _shell(work: Path) -> Shell:
    secrets = work / "secrets"
    environment = {
        **Engine(work / "engine").environment,
        "ETUDE_SECRETS_DIR": str(secrets),
        "ETUDE_RUN": "loop",
        "COMPOSE_PROJECT_NAME": "etude",
    }
    return Shell(ROOT, work / "rehearsal.log", environment)


def _inside(work: Path) -> None:
    """The part in namespaces of its own; the bridge of this engine is nobody else's."""
    shell, engine = _shell(work), Engine(work / "engine")
    shell.run("ip", "link", "set", "lo", "up")
    with engine.running(shell, network=True):
        play(shell, work)


def _build(work: Path, *, ours: bool) -> None:
    """Bases and images, in the machine's network."""
    shell, engine = _shell(work), Engine(work / "engine")
    with engine.running(shell, network=False):
        make_bases(work / "bases", shell)
        if ours:
            build_images(shell, work / "build.json")
        for name, size, own in sizes(shell):
            say(f"{name}: {size / 1e6:.0f} MB, {own / 1e6:.0f} MB of it over its base")


def _outside(work: Path, *, builds: bool) -> int:
    _shell(work).run(ROOT / "deploy/compose/make-secrets", work / "secrets")
    _build(work, ours=builds)
    words = (*NAMESPACES, sys.executable, "-m", "rehearsal", "--inside", "--work", str(work))
    inner = subprocess.Popen(words)
    try:
        return inner.wait()
    finally:
        if inner.poll() is None:
            try:  # Ctrl-C reached it as well: let it take down what it started
                inner.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                inner.kill()  # and with it, by --kill-child, everything in its namespace
                inner.wait()


def main() -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(prog="rehearsal", description=__doc__)
    parser.add_argument("--work", type=Path, help="keep bases and layers here for the next time")
    parser.add_argument("--as-built", action="store_true", help="take the images of the last time")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupted)
    if given.inside:
        try:
            _inside(given.work)
        except Failed as failure:
            say(f"FAILED: {failure}")
            return 1
        return 0
    began = time.monotonic()
    folder = given.work.resolve() if given.work else Path(tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    reason = missing(folder)
    if reason is not None:
        print(f"rehearse: skipped: {reason}")
        return 0
    work = folder if given.work else Path(tempfile.mkdtemp(prefix="etude-rehearsal-"))
    engine = Engine(work / "engine")
    try:
        code = _outside(work, builds=not given.as_built)
    except Failed as failure:
        say(f"FAILED: {failure}")
        code = 1
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        code = 130
    finally:
        engine.remove_cgroups()
        if given.work is None:
            engine.remove()
            shutil.rmtree(work, ignore_errors=True)
    say(f"rehearse: {'holds' if code == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
