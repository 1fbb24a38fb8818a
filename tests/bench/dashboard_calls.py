"""The dashboard's data calls at 1,000,000 tasks and 10,000 versions: p50 and p95 of every route.

Real durable servers and a serving sampler; tasks, statistics, versions and the newest groups are
written by COPY, for a run of that length cannot be played in minutes. One client, one call at a
time, no entity tags. Also what the explorer's index costs a report's statistics.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psycopg
import redis
from stack import SUBTASKS, Stack, fill, machine, serving

from etude_proto.v1 import Run
from etude_sampler.statistics.arms import GroupFacts, sum_groups

LANES = ["uniform", *SUBTASKS]
FIGURES = [f"figure_{number}" for number in range(20)]
INDEX = "task_statistics_explorer_idx"
SEEN = 0.8
"""Share of the tasks that have statistics."""


def blobs(rng: np.random.Generator, count: int) -> list[bytes]:
    """Packed rows of one float64 a sub-task."""
    return [rng.random(len(SUBTASKS)).astype("<f8").tobytes() for _ in range(count)]


def summary(rng: np.random.Generator, version: int) -> str:
    """What the history keeps of a version."""
    share = 1.0 / len(LANES)
    won = rng.integers(0, 9, 32).tolist()
    sums = sum_groups(GroupFacts(8, n, 4.0 * n / 8, 4000, is_informative=0 < n < 8) for n in won)
    rise = 1.0 - np.exp(-version / 4000)
    return json.dumps(
        {
            "num_groups": 64,
            "num_informative": int(rng.integers(10, 60)),
            "mean_reward": float(3 * rise + rng.random()),
            "success_rate": float(0.8 * rise + 0.2 * rng.random()),
            "num_tokens": 200_000,
            "num_rollouts": 512,
            "mean_components": {name: float(rng.random()) for name in SUBTASKS},
            "mastery": {name: float(rise) for name in SUBTASKS},
            "mastery_now": {name: float(rise) for name in SUBTASKS},
            "mastery_error": dict.fromkeys(SUBTASKS, 0.02),
            "component_weights": dict.fromkeys(SUBTASKS, 1.0),
            "lane_shares": dict.fromkeys(LANES, share),
            "lane_groups": dict.fromkeys(LANES, 13),
            "arms": {"control": sums.to_json(), "curriculum": sums.to_json()},
            "metrics": {name: float(rng.random()) for name in FIGURES},
        }
    )


def statistics(rng: np.random.Generator, run_id: str, num: int) -> Iterator[tuple[object, ...]]:
    """Rows of `task_statistics` for a share of the tasks."""
    packed = blobs(rng, 256)
    for ordinal in np.flatnonzero(rng.random(num) < SEEN).tolist():
        ema, blob = float(rng.random()), packed[ordinal % 256]
        yield (
            *(run_id, ordinal, "none", 0, 1, 2.0, 2.0, ema, 0, 0, 0.5, 1.0, 0.5),
            *(1, int(rng.integers(1, 9)), int(rng.integers(1, 10_000)), blob, blob, b""),
        )


def groups(
    rng: np.random.Generator, run_id: str, num: int, count: int
) -> Iterator[tuple[object, ...]]:
    """Ledger rows of the newest groups."""
    packed = blobs(rng, 256)
    outcomes = json.dumps(
        {
            "reward": [1.0] * 8,
            "success": [True] * 8,
            "finish_reason": ["stop"] * 8,
            "components": {name: [0.5] * 8 for name in SUBTASKS},
        }
    )
    for seq in range(1, count + 1):
        ordinal = int(rng.integers(0, num))
        mean, prev, new = (packed[(ordinal + i) % 256] for i in range(3))
        yield (
            *(run_id, seq, f"lease_{seq}", ordinal, "none", 0, 0, 1, "applied", "admitted"),
            *(9_999, 9_999, 1, 0.1, num, 8, 4, 2.0, 0.5, 4000, mean, prev, new, outcomes),
        )


def furnish(stack: Stack, run: Run, *, num_versions: int, num_groups: int) -> None:
    """Give a fresh run a long past."""
    rng = np.random.default_rng(7)
    with psycopg.connect(stack.dsn) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY task_statistics FROM STDIN") as rows:
            for row in statistics(rng, run.id, run.num_tasks):
                rows.write_row(row)
        names = "run_id, version, weights_uri, summary"
        with cursor.copy(f"COPY policy_versions ({names}) FROM STDIN") as rows:
            for version in range(1, num_versions + 1):
                rows.write_row((run.id, version, None, summary(rng, version)))
        names = (
            "run_id, apply_seq, lease_id, ordinal, kind, level, number, fence, verdict, gate, "
            "policy_version, min_version, lane, slot_probability, num_waiting, num_valid, "
            "num_success, reward_mean, reward_var, num_tokens, mean, prev, new, outcomes"
        )
        with cursor.copy(f"COPY ledger ({names}) FROM STDIN") as rows:
            for row in groups(rng, run.id, run.num_tasks, num_groups):
                rows.write_row(row)
        cursor.execute(
            "UPDATE runs SET policy_version = %s, folded_seq = %s WHERE id = %s",
            (num_versions, num_groups, run.id),
        )
        connection.commit()
        connection.autocommit = True
        cursor.execute("VACUUM (ANALYZE) task_statistics, policy_versions, ledger, tasks")


def routes(client: httpx.Client, run: Run) -> dict[str, str]:
    """Name and address of every call of the page, one task and one deep page among them."""
    base = f"/v1/runs/{run.id}"
    tasks = f"{base}/tasks?limit=25"
    deep = client.get(f"{base}/tasks?limit=1000&order=hardest").json()
    for _ in range(3):
        cursor = deep["next_cursor"]
        deep = client.get(f"{base}/tasks?limit=1000&order=hardest&cursor={cursor}").json()
    return {
        "runs": "/v1/runs?limit=100",
        "run": base,
        "curriculum": f"{base}/curriculum",
        "series, 240 points": f"{base}/series?points=240",
        "distributions": f"{base}/distributions",
        "activity": f"{base}/activity",
        "tasks, by import": tasks,
        "tasks, hardest": f"{tasks}&order=hardest",
        "tasks, hardest, after 4,000": f"{tasks}&order=hardest&cursor={deep['next_cursor']}",
        "tasks, easiest": f"{tasks}&order=easiest",
        "tasks, longest not seen": f"{tasks}&order=stalest",
        "tasks, most improved": f"{tasks}&order=improved",
        "tasks, never seen": f"{tasks}&only=unseen",
        "tasks, parked (none)": f"{tasks}&only=parked",
        "tasks, hardest of a sub-task": f"{tasks}&order=hardest&subtask=format",
        "tasks, of a source that is not there": f"{tasks}&order=hardest&source=nowhere",
        "tasks, words that all have": f"{tasks}&order=hardest&q=word",
        "tasks, words that none has": f"{tasks}&order=hardest&q=xylophone",
        "tasks, by id": f"{tasks}&q={deep['items'][0]['id']}",
        "one task": f"{base}/tasks/{deep['items'][0]['id']}",
    }


def timed(client: httpx.Client, path: str) -> float:
    """Milliseconds of one call."""
    begun = time.perf_counter()
    client.get(path).raise_for_status()
    return 1000 * (time.perf_counter() - begun)


def processor_ms(stack: Stack) -> float:
    """Processor time of sampler, PostgreSQL's backends and Valkey so far, whatever else runs."""
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'etude-sampler'"
        ).fetchall()
    with redis.Redis.from_url(stack.redis_url) as hot:
        pids = [stack.pid, int(hot.info("server")["process_id"]), *(pid for (pid,) in found)]
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return 1000 * ticks / os.sysconf("SC_CLK_TCK")


def measure(stack: Stack, run: Run, calls: int) -> None:
    """Print a row for every call of the page."""
    heads = ["call", "first ms", "p50 ms", "p95 ms", "processor ms", "KB"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        for name, path in routes(client, run).items():
            first = timed(client, path)
            before = processor_ms(stack)
            times = [timed(client, path) for _ in range(calls)]
            used = (processor_ms(stack) - before) / calls
            p50, p95 = np.percentile(times, [50, 95])
            size = len(client.get(path).content) / 1000
            row = (f"{first:.0f}", f"{p50:.1f}", f"{p95:.1f}", f"{used:.1f}", f"{size:.0f}")
            print(f"| {name} | {' | '.join(row)} |", flush=True)


def index_cost(stack: Stack, run: Run, rounds: int) -> dict[str, float]:
    """Median milliseconds of moving 64 tasks' statistics, with the explorer's index and without."""
    statement = (
        "UPDATE task_statistics SET ema = random(), last_version = last_version + 1 "
        "WHERE run_id = %s AND kind = 'none' AND level = 0 AND ordinal = ANY(%s)"
    )
    found = {}
    rng = np.random.default_rng(8)
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        for name in ("with", "without", "with again"):
            if name == "without":
                connection.execute(f"DROP INDEX {INDEX}")
            if name == "with again":
                connection.execute(
                    f"CREATE INDEX {INDEX} ON task_statistics (run_id, ema, ordinal) "
                    "WHERE kind = 'none' AND level = 0"
                )
            times = []
            for _ in range(rounds):
                ordinals = rng.integers(0, run.num_tasks, 64).tolist()
                begun = time.perf_counter()
                connection.execute(statement, (run.id, ordinals))
                times.append(1000 * (time.perf_counter() - begun))
            found[name] = float(np.median(times))
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--versions", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=100)
    asked = parser.parse_args()
    with serving(1) as stack:
        run = fill(stack, asked.tasks, task_bytes=600)
        furnish(stack, run, num_versions=asked.versions, num_groups=20_000)
        print(f"{asked.tasks:,} tasks, {asked.versions:,} versions; {machine()}", flush=True)
        measure(stack, run, asked.calls)
        print(f"64 tasks' statistics, ms: {index_cost(stack, run, 300)}")


if __name__ == "__main__":
    main()
