"""A process that starts PostgreSQL or Valkey again and again: `python -m support.storm_keeper`.

Commands come as lines on standard input: `start` (answered by one JSON line with process id and
address), and the end of the input, which stops the server. Killing it is the storm's part; a start
waits until the last process of a killed PostgreSQL has left. Used by `storm_servers`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from etude_sampler.embedded import EmbeddedServerError, RunningServer, start_postgres, start_redis


def keep(kind: str, folder: Path) -> None:
    """Serve commands until the input ends."""
    server: RunningServer | None = None
    try:
        for _ in sys.stdin:
            if server is not None:
                server.kill()
            try:
                server = _start(kind, folder)
                answer = {"pid": server.pid, "url": server.url}
            except EmbeddedServerError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), flush=True)
    finally:
        if server is not None:
            server.stop()


def _start(kind: str, folder: Path) -> RunningServer:
    if kind == "postgres":
        return start_postgres(folder / kind, durable=True)
    return start_redis(folder / kind, durable=True, appendfsync="everysec")


if __name__ == "__main__":
    keep(sys.argv[1], Path(sys.argv[2]))
