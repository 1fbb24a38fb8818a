"""Rebuild of a run after Redis was emptied, beside another run that is served meanwhile.

    .venv/bin/python tests/bench/rebuild.py [--tasks 1000000] [--rounds 2] [--workers 2]

Creates a run of `--tasks` tasks in five lanes (a rebuild from nothing), gives every task
statistics, empties Redis (`FLUSHALL`) and waits until the run is served again; a small second run
is leased from all the time. PostgreSQL with fsync, Valkey with AOF everysec, on this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from redis import Redis
from stack import SUBTASKS, Stack, fill, machine, serving

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import PromptBatchRequest, ReleaseRequest, Run
from support.waiting import wait_for

_STATISTICS = """
INSERT INTO task_statistics (run_id, ordinal, kind, level, fence, s, f, ema, z_easy, z_hard, abs_a,
    reward_mean, reward_var, full_visits, n, last_version, m, v)
SELECT %(run)s, i, 'none', 0, 1, i %% 5, i %% 3, (i %% 7) / 7.0, 0, 0, 0.5, 0.25, 0.125, 0, 3, 0,
    packed.m, packed.v
FROM generate_series(0, %(tasks)s - 1) AS i,
LATERAL (SELECT string_agg(float8send(x), '' ORDER BY k) AS little_m,
                string_agg(float8send(y), '' ORDER BY k) AS little_v
         FROM (SELECT k, ((i * (k + 3)) %% 11) / 11.0 AS x, ((i + k) %% 5) / 20.0 AS y
               FROM generate_series(1, %(lanes)s) AS k) AS one) AS big,
LATERAL (SELECT reversed(little_m) AS m, reversed(little_v) AS v) AS packed
"""
_REVERSED = """
CREATE FUNCTION reversed(doubles bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(substr(doubles, 8 * (j / 8) + 8 - j %% 8, 1), '' ORDER BY j)
    FROM generate_series(0, length(doubles) - 1) AS j
$$
"""


@dataclass(slots=True)
class Beside:
    """Calls on another run, in milliseconds."""

    lease_ms: list[float] = field(default_factory=list)
    refused: int = 0

    def told(self) -> dict[str, float]:
        """Number, median, 99th percentile, longest."""
        if len(self.lease_ms) < 2:
            return {"n": len(self.lease_ms)}
        cuts = statistics.quantiles(self.lease_ms, n=100)
        return {
            "n": len(self.lease_ms),
            "refused": self.refused,
            "p50_ms": round(cuts[49], 2),
            "p99_ms": round(cuts[98], 2),
            "max_ms": round(max(self.lease_ms), 2),
        }


@contextmanager
def leasing(stack: Stack, run: Run) -> Iterator[Beside]:
    """Lease and release 16 tasks of a run in a loop, as long as the context lives."""
    beside, stop = Beside(), threading.Event()

    def work() -> None:
        with EtudeClient(stack.url, max_attempts=1) as client:
            while not stop.is_set():
                begun = time.perf_counter()
                try:
                    batch = client.lease_prompt_batch(
                        run.id, PromptBatchRequest(num_tasks=16, worker="beside")
                    )
                except EtudeError:
                    beside.refused += 1
                    continue
                beside.lease_ms.append(1000 * (time.perf_counter() - begun))
                if batch.lease is not None:
                    try:
                        client.release_lease(
                            batch.lease.id, ReleaseRequest(fence=batch.lease.fence)
                        )
                    except EtudeError:
                        beside.refused += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield beside
    finally:
        stop.set()
        thread.join()


def served(client: EtudeClient, run: Run, *, epoch: int) -> Run:
    """The run as soon as it is served at an epoch."""
    found = run

    def is_served() -> bool:
        nonlocal found
        found = client.get_run(run.id)
        done = found.last_rebuild
        return found.loading is None and done is not None and done.epoch >= epoch

    wait_for(is_served, what=f"{run.id} is served", timeout_s=600)
    return found


def peak_mib(pid: int) -> dict[int, int]:
    """Peak resident memory of a process and its children."""
    found = {}
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for one in pids:
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                found[one] = int(line.split()[1]) // 1024
    return found


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--task-bytes", type=int, default=500)
    options = parser.parse_args()
    print(f"machine: {machine()}; {options.workers} replicas", flush=True)
    rows: list[dict[str, object]] = []
    with serving(options.workers) as stack, EtudeClient(stack.url, timeout_s=600) as client:
        small = fill(stack, 1000, task_bytes=500)
        with leasing(stack, small) as quiet:
            wait_for(lambda: len(quiet.lease_ms) >= 300, what="300 leases", timeout_s=120)
        print("second run, alone:", quiet.told(), flush=True)
        with leasing(stack, small) as beside:
            run = client.get_run(fill(stack, options.tasks, task_bytes=options.task_bytes).id)
        assert run.last_rebuild is not None
        print(f"created: {run.last_rebuild.seconds} s; second run: {beside.told()}", flush=True)
        begun = time.perf_counter()
        with psycopg.connect(stack.dsn) as connection:
            connection.execute(_REVERSED.replace("%%", "%"))
            words = {"run": run.id, "tasks": options.tasks, "lanes": len(SUBTASKS)}
            connection.execute(_STATISTICS, words)
        with psycopg.connect(stack.dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE task_statistics")
        print(f"statistics written in {time.perf_counter() - begun:.1f} s", flush=True)
        for _ in range(options.rounds):
            epoch, begun = client.get_run(run.id).epoch, time.perf_counter()
            with Redis.from_url(stack.redis_url) as redis:
                redis.flushall()
            served(client, small, epoch=client.get_run(small.id).epoch)
            with leasing(stack, small) as beside:
                found = served(client, run, epoch=epoch + 1)
            wall = time.perf_counter() - begun
            assert found.last_rebuild is not None
            with Redis.from_url(stack.redis_url) as redis:
                used = redis.info("memory")["used_memory"] // (1 << 20)
            rows.append(
                {
                    "wall_s": round(wall, 2),
                    "rebuild": found.last_rebuild.model_dump(),
                    "second_run": beside.told(),
                    "redis_mib": used,
                    "peak_mib": peak_mib(stack.pid),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    digests = {json.dumps(row["rebuild"]["statistics_digest"]) for row in rows}  # type: ignore[index]
    assert len(digests) == 1, "two rebuilds read different statistics"
    print(json.dumps({"machine": machine(), "options": vars(options), "rows": rows}))


if __name__ == "__main__":
    main()
