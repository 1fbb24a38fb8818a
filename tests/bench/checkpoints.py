"""How long a checkpoint, a restore and a fork take in PostgreSQL, with statistics for every task.

    .venv/bin/python tests/bench/checkpoints.py [--tasks 100000] [--subtasks 4]

On a PostgreSQL of its own with durable settings. Loading Redis afterwards is a rebuild, which
`tests/bench/rebuild.py` measures.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from etude_proto.v1 import CheckpointMark, Run, RunCreate, RunMode
from etude_sampler.embedded import start_postgres
from etude_sampler.service.checkpointing import checkpoint_plan
from etude_sampler.store.postgres.catalog import PostgresCatalog
from etude_sampler.store.postgres.checkpoints import PostgresCheckpoints
from etude_sampler.store.postgres.engine import create_engine
from etude_sampler.store.postgres.migrate import upgrade
from support.contract import example

T = TypeVar("T")
RUN = "run_0123456789ab"
_FILL = """
INSERT INTO task_statistics
SELECT %s, i, 'none', 0, (1::bigint << 36) + i, random() * 8, random() * 8, random(), i %% 3,
    i %% 5, random(), random(), random(), i %% 2, i %% 17, i %% 40, m, m
FROM generate_series(0, %s - 1) AS i,
LATERAL (SELECT decode(string_agg(md5(i::text || k), ''), 'hex') AS m
         FROM generate_series(1, %s) AS k) AS packed
"""
_RUN = """
INSERT INTO runs (id, name, dataset_id, status, spec, resolved, secret, num_tasks, allocator_state,
    totals, epoch) VALUES (%s, 'bench', 'ds_bench', 'active', %s, %s, 'x', %s, '{}', '{}', 1)
"""


async def timed(what: str, work: Awaitable[T]) -> T:
    """Run and print the seconds."""
    began = time.perf_counter()
    done = await work
    print(f"{what:<12} {time.perf_counter() - began:7.2f} s", flush=True)
    return done


async def measure(url: str) -> None:
    """Take, restore, fork."""
    engine = create_engine(url, pool_size=4, timeout_s=30.0)
    try:
        store, run = PostgresCheckpoints(engine), await PostgresCatalog(engine).get_run(RUN)
        plan = checkpoint_plan(run, CheckpointMark(), call="bench")
        taken = await timed("checkpoint", store.take(RUN, plan))
        print(f"{'stored':<12} {taken.num_bytes / 2**20:7.1f} MiB of {taken.num_statistics} tasks")
        await timed("restore", store.restore(RUN, taken.id, restore_id="rst_bench"))
        fork = replace(run, id="run_ba9876543210", name="fork", forked_from={"run_id": RUN})
        await timed("fork", store.fork(RUN, taken.id, fork))
    finally:
        await engine.dispose()


def main() -> None:
    """Fill a database, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--subtasks", type=int, default=4, help="an even number")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="etude-bench-", dir="/tmp"))
    folder.chmod(0o755)
    server = start_postgres(folder / "pg", durable=True)
    try:
        server.create_database("bench")
        url = server.url_of("bench")
        upgrade(url)
        with psycopg.connect(url.replace("+asyncpg", "", 1)) as connection:
            spec = RunCreate(name="bench", dataset_id="ds_bench", mode=RunMode.TRAINING)
            names = [f"skill_{number}" for number in range(given.subtasks)]
            connection.execute("INSERT INTO datasets (id, name) VALUES ('ds_bench', 'bench')")
            shape = _resolved(names)
            connection.execute(_RUN, (RUN, spec.model_dump_json(), shape, given.tasks))
            connection.execute(_FILL.encode(), (RUN, given.tasks, given.subtasks // 2))
        with psycopg.connect(url.replace("+asyncpg", "", 1), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE task_statistics")
        asyncio.run(measure(url))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _resolved(names: list[str]) -> str:
    """A curriculum with these sub-tasks, as a run keeps it."""
    resolved = Run.model_validate_json(example("Run")).resolved
    changed = {"subtasks": names, "lanes": ["uniform", *names], "prerequisites": {}}
    return resolved.model_copy(update=changed).model_dump_json()


if __name__ == "__main__":
    main()
