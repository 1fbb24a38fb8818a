"""What the ledger's partitions cost a report: 64 rows into a plain table and into a partition.

    python tests/bench/partitions.py [RUNS]

The rows go in as a report's do (binary COPY, in turns, on one connection), with RUNS partitions
(default 1000) beside the one that is written to; then the plan of a fold's read, the first and the
sixth time, and what dropping a run of 64,000 rows takes. No disk syncs: the figures compare tables,
not disks.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import asyncpg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from etude_sampler.store.postgres import ledger_sql as sql
from etude_sampler.store.postgres.engine import fetch_pruned
from support.servers import Servers

_TURNS = 1000
_ROWS = 64
_NEW_RUN = """
INSERT INTO runs (id, name, dataset_id, status, spec, resolved, secret, num_tasks,
    allocator_state, totals) VALUES ($1, $1, 'ds', 'paused', '{}', '{}', '', 1, '', '{}')
"""
_OUTCOMES = '{"reward": [1, 0, 1, 1, 0, 1, 1, 1], "components": {"a": [1, 0, 1, 0, 1, 0, 1, 0]}}'


def _records(run_id: str, turn: int) -> list[tuple[object, ...]]:
    first, blank = turn * _ROWS, bytes(40)
    return [
        (
            *(run_id, first + i, f"lease_{turn}", i, "none", 0, 0, turn, "applied", "no_tokens"),
            *(1, 1, 0, 0.5, 100, 8, 4, 0.5, 0.25, 900, blank, blank, blank, _OUTCOMES),
        )
        for i in range(_ROWS)
    ]


async def _copy(connection: asyncpg.Connection, table: str, turn: int) -> float:
    records = _records("run_000000000000", turn)
    begun = time.perf_counter()
    await connection.copy_records_to_table(
        table, records=records, columns=["run_id", *sql.LEDGER_COLUMNS]
    )
    return (time.perf_counter() - begun) * 1e3


async def _compare(dsn: str, num_runs: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO datasets (id, name) VALUES ('ds', 'ds')")
    begun = time.perf_counter()
    for number in range(num_runs):
        await connection.execute(_NEW_RUN, f"run_{number:012x}")
    each = (time.perf_counter() - begun) * 1e3 / num_runs
    print(f"a partition more: {each:.1f} ms a run, {num_runs} runs")
    await connection.execute("CREATE TABLE plain (LIKE ledger INCLUDING ALL)")
    times: dict[str, list[float]] = {"plain": [], "ledger": []}
    for turn in range(_TURNS):
        for table, found in times.items():
            found.append(await _copy(connection, table, turn))
    for table, found in times.items():
        late = sorted(found[_TURNS // 10 :])
        half, high = late[len(late) // 2], late[int(len(late) * 0.99)]
        print(f"{_ROWS} rows into {table:7}: p50 {half:.2f} ms, p99 {high:.2f} ms")
    read = f"{sql.READ_LEDGER} AND apply_seq > $2 AND verdict = 'applied' ORDER BY apply_seq"
    for name in ("cached", "pruned"):
        took = []
        for _ in range(7):
            begun = time.perf_counter()
            arguments = ("run_000000000000", _TURNS * _ROWS - 65)
            if name == "cached":
                await connection.fetch(read, *arguments)
            else:
                await fetch_pruned(connection, read, *arguments)
            took.append((time.perf_counter() - begun) * 1e3)
        print(f"a fold's read, {name}: first {took[0]:.1f} ms, sixth {took[5]:.1f} ms")
    part = "ledger_run_000000000000"
    begun = time.perf_counter()
    await connection.execute(f"ALTER TABLE ledger DETACH PARTITION {part} CONCURRENTLY")
    await connection.execute(f"DROP TABLE {part}")
    print(f"drop a run of {_TURNS * _ROWS} rows: {(time.perf_counter() - begun) * 1e3:.1f} ms")
    begun = time.perf_counter()
    await connection.execute("DELETE FROM plain WHERE run_id = 'run_000000000000'")
    print(f"delete as many rows: {(time.perf_counter() - begun) * 1e3:.1f} ms, and VACUUM later")
    await connection.close()


def main() -> None:
    """Measure and print."""
    servers = Servers()
    try:
        with servers.database() as url:
            num_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
            asyncio.run(_compare(url.replace("+asyncpg", "", 1), num_runs))
    finally:
        servers.close()


if __name__ == "__main__":
    main()
