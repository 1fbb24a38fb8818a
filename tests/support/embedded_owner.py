"""A process that owns embedded servers, to be killed: `python embedded_owner.py FOLDER`.

Prints one JSON line with the process ids and addresses once both servers run, then waits until its
standard input closes and stops them in order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from etude_sampler.embedded import start_embedded

if __name__ == "__main__":
    with start_embedded(Path(sys.argv[1])) as embedded:
        facts = {
            "postgres": embedded.postgres.pid,
            "redis": embedded.redis.pid,
            "dsn": embedded.postgres.dsn_of("etude"),
            "redis_url": embedded.redis_url,
        }
        print(json.dumps(facts), flush=True)
        sys.stdin.read()
