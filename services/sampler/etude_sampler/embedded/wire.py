"""Just enough of PostgreSQL's protocol to ask "are you up?" and to create a database.

The drivers of the sampler are asynchronous, and servers start before any event loop runs; four
message types on a Unix socket are less than a second driver. Protocol 3.0, simple queries only,
trust authentication. Used by `postgres`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

from .errors import EmbeddedServerError
from .process import unix_connection

PROTOCOL = 3 << 16
QUERY_TIMEOUT_S = 60.0


class PostgresRefusal(EmbeddedServerError):
    """The server answered with an error; `sqlstate` is its five-character code."""

    def __init__(self, message: str, *, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def accepts_sessions(path: Path) -> bool:
    """Whether the server on this socket lets a session begin; an OSError while it is down."""
    try:
        with _session(path, database="postgres"):
            return True
    except PostgresRefusal:  # starting up, recovering, or shutting down
        return False


def execute(path: Path, *, database: str, sql: str) -> None:
    """Run one statement as `postgres` and drop its rows.

    Raises:
        PostgresRefusal: the server refused the session or the statement.
        OSError: nobody listens, or the connection broke.
    """
    with _session(path, database=database) as connection:
        _send(connection, b"Q", sql.encode() + b"\0")
        _until_ready(connection)


@contextmanager
def _session(path: Path, *, database: str) -> Iterator[socket]:
    with unix_connection(path, timeout_s=QUERY_TIMEOUT_S) as connection:
        parameters = b"user\0postgres\0database\0" + database.encode() + b"\0\0"
        _send(connection, b"", struct.pack("!i", PROTOCOL) + parameters)
        _until_ready(connection)
        yield connection
        _send(connection, b"X", b"")


def _send(connection: socket, kind: bytes, body: bytes) -> None:
    connection.sendall(kind + struct.pack("!i", len(body) + 4) + body)


def _until_ready(connection: socket) -> None:
    """Read messages up to ReadyForQuery; an ErrorResponse among them is raised."""
    refusal: PostgresRefusal | None = None
    while True:
        try:
            kind, size = struct.unpack("!ci", _read(connection, 5))
        except ConnectionError:
            if refusal is None:
                raise
            raise refusal from None  # a refused session ends without ReadyForQuery
        body = _read(connection, size - 4)
        if kind == b"E":
            refusal = _refusal(body)
        elif kind == b"Z":
            if refusal is not None:
                raise refusal
            return


def _read(connection: socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionResetError("PostgreSQL closed the connection")
        received += part
    return received


def _refusal(body: bytes) -> PostgresRefusal:
    """Fields of an ErrorResponse: one-byte kinds, each with a zero-terminated text."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return PostgresRefusal(fields.get(b"M", "no message"), sqlstate=fields.get(b"C", ""))
