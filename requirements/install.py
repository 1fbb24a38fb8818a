"""Builds one of the project's environments from the pinned, hashed files in this folder.

``python3 requirements/install.py dev`` makes ``.venv`` (all three services, tests, lint);
``python3 requirements/install.py vllm`` makes ``.venv-vllm`` (real vLLM on CPU, tests only), and
``site`` makes ``.venv-site`` (the documentation as a site). Called by ``make``; standard library
only, because it runs before anything is installed. A stamp with the digest of every input makes a
second call a no-op, and a file lock lets concurrent calls for one environment wait for one another.
Everything is compiled, so that services start quickly; with ``--lazy`` only when it is first
imported, for whoever needs the environment for an hour: most of it never is.

torch is not in the hashed files: its builds differ by machine, and pip picks the one that the
machine offers. ``ETUDE_TORCH_ARGS`` adds arguments to that one pip call (an index, say).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
UV = "uv==0.13.8"
PROTO, SAMPLER, ROLLOUT, TRAINER = (
    ROOT / "proto",
    ROOT / "services" / "sampler",
    ROOT / "services" / "rollout",
    ROOT / "services" / "trainer",
)
# What some trainers' wheels put beside their packages; a foreign `tests` would hide ours.
STRAY = ("tests", "scripts", "recipe", "tutorial")
# What a CUDA torch brings along; beside a CPU vLLM, torchvision breaks the transformers import.
UNWANTED_BESIDE_VLLM = ("torchvision", "torchaudio", "torchcodec", "triton")


@dataclass(frozen=True, slots=True)
class Environment:
    """One virtual environment: where it lies, its files in order, its editable members."""

    folder: Path
    hashed: tuple[Path, ...]
    members: tuple[Path, ...]
    has_torch: bool = True

    def inputs(self) -> list[Path]:
        """Every file whose change makes the environment stale."""
        texts = [REQUIREMENTS / "torch.txt", Path(__file__), *self.hashed]
        return texts + [member / "pyproject.toml" for member in self.members]


ENVIRONMENTS = {
    "dev": Environment(
        ROOT / ".venv",
        tuple(REQUIREMENTS / name for name in ("dev.txt", "bfcl.txt", "frameworks.txt")),
        (PROTO, SAMPLER, ROLLOUT, TRAINER),
    ),
    "vllm": Environment(
        ROOT / ".venv-vllm",
        (REQUIREMENTS / "vllm.txt",),
        (PROTO, ROLLOUT),
    ),
    "site": Environment(ROOT / ".venv-site", (REQUIREMENTS / "site.txt",), (), has_torch=False),
}


def run(*command: str | Path) -> None:
    """Echo a command and run it; a failure ends the installation with its exit code."""
    words = [str(word) for word in command]
    print("+", shlex.join(words), flush=True)
    done = subprocess.run(words, check=False, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"setup: command failed with exit code {done.returncode}: {shlex.join(words)}")


def succeeds(*command: str | Path) -> bool:
    """Whether a command runs and exits 0; its output is dropped."""
    try:
        done = subprocess.run(list(map(str, command)), check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def digest(environment: Environment) -> str:
    """SHA-256 over the interpreter's version and every input file."""
    state = hashlib.sha256(sys.version.encode())
    for path in environment.inputs():
        state.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


def installer(python: Path, *, lazy: bool) -> Callable[..., None]:
    """A function that installs with uv where uv can be had, else with plain pip.

    Both are told ``--no-deps``: the hashed files are complete, and torch, which some packages in
    them require, is installed apart.
    """
    if succeeds(python, "-m", "uv", "--version") or succeeds(
        python, "-m", "pip", "install", "--quiet", UV
    ):
        return lambda *args: run(
            python,
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            *([] if lazy else ["--compile-bytecode"]),
            "--python",
            python,
            "--no-deps",
            *args,
        )
    print("setup: uv is not to be had here, going on with pip (slower)", flush=True)
    options = ("--quiet", "--no-deps", *(["--no-compile"] if lazy else []))
    return lambda *args: run(python, "-m", "pip", "install", *options, *args)


def build(environment: Environment, *, lazy: bool) -> None:
    """Make or bring up to date one environment; may be repeated after any failure."""
    python = environment.folder / "bin" / "python"
    if not succeeds(python, "-c", f"import sys; assert sys.version == {sys.version!r}"):
        run(sys.executable, "-m", "venv", "--clear", environment.folder)
    install = installer(python, lazy=lazy)
    for path in environment.hashed:
        install("--require-hashes", "-r", path)
    for folder in environment.folder.glob("lib/python*/site-packages"):
        for name in STRAY:
            shutil.rmtree(folder / name, ignore_errors=True)
    pip = (python, "-m", "pip")
    if environment.has_torch:
        extra = shlex.split(os.environ.get("ETUDE_TORCH_ARGS", ""))
        torch = ("-r", str(REQUIREMENTS / "torch.txt"), *extra)
        run(*pip, "install", "--quiet", *(["--no-compile"] if lazy else []), *torch)
    if environment.folder.name == ".venv-vllm":
        present = [name for name in UNWANTED_BESIDE_VLLM if succeeds(*pip, "show", name)]
        if present:
            run(*pip, "uninstall", "--quiet", "-y", *present)
    for member in environment.members:
        install("--no-build-isolation", "-e", member)


def main(name: str, *options: str) -> None:
    """Build the named environment unless its stamp says that it is current."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before the version is known
        sys.exit(f"setup: Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    environment = ENVIRONMENTS[name]
    started = time.monotonic()
    with environment.hashed[0].open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = environment.folder / "etude-setup.sha256"
        wanted = digest(environment)
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            print(f"setup: {environment.folder.name} is current", flush=True)
            return
        build(environment, lazy="--lazy" in options)
        stamp.write_text(wanted, encoding="utf-8")
    print(f"setup: {environment.folder.name} ready in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
