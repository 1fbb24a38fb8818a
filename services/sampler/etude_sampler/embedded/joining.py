"""The addresses of a pair that another process runs; for commands beside `etude serve`.

Sockets lie where `sockets` puts them for a data directory, so no file has to name them.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from . import wire
from .postgres import PORT
from .postgres import SOCKET_NAME as POSTGRES_SOCKET
from .redis import SOCKET_NAME as REDIS_SOCKET
from .serve import DATABASE
from .sockets import socket_folder


def running_urls(root: Path) -> tuple[str, str] | None:
    """Database and Redis URLs of the pair under `root`; None if PostgreSQL does not answer there.

    Raises:
        EmbeddedServerError: the folder of a socket belongs to somebody else.
    """
    data_dir = root / "postgres"
    if not data_dir.is_dir():
        return None
    sockets = socket_folder(data_dir, socket_name=POSTGRES_SOCKET)
    try:
        if not wire.accepts_sessions(sockets / POSTGRES_SOCKET):
            return None
    except OSError:
        return None
    redis = socket_folder(root / "redis", socket_name=REDIS_SOCKET) / REDIS_SOCKET
    host = quote(str(sockets), safe="")
    database = f"postgresql+asyncpg://postgres@/{DATABASE}?host={host}&port={PORT}"
    return database, f"unix://{quote(str(redis))}"
