"""The one error of the embedded servers, raised by every module of this package."""

from __future__ import annotations

from pathlib import Path

LOG_TAIL_LINES = 20


class EmbeddedServerError(RuntimeError):
    """A server cannot be found, started or stopped; the message says what to do about it."""


def log_tail(log: Path) -> str:
    """The last lines of a server's log, indented, for an error message; "" without a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    tail = "".join(f"\n    {line}" for line in lines[-LOG_TAIL_LINES:])
    return f"\n  end of {log}:{tail}" if tail else ""
