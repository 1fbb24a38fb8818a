"""Closed loop of lease and report, and lease-only bursts: pairs a second, p50 and p99.

    .venv/bin/python tests/bench/loop.py [--tasks 10000,100000,1000000] [--seconds 20]

64-task batches, five lanes, groups of 8 rollouts, several clients (wrk); PostgreSQL with fsync,
Valkey with AOF everysec, all on this machine, load generator included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from stack import fill, machine, serving, wrk


def main() -> None:
    """Measure and print a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="10000,100000,1000000")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--task-bytes", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    print(f"machine: {machine()}; {options.workers} replicas, {options.clients} clients")
    rows = []
    with serving(options.workers) as stack:
        for num_tasks in map(int, options.tasks.split(",")):
            started = time.perf_counter()
            run = fill(stack, num_tasks, task_bytes=options.task_bytes)
            filled = time.perf_counter() - started
            load = {"clients": options.clients, "batch": options.batch}
            wrk(stack, run, mode="pairs", seconds=3, **load)
            pairs = wrk(stack, run, mode="pairs", seconds=options.seconds, **load)
            burst = wrk(stack, run, mode="lease", seconds=2, **load)
            rows.append(
                {
                    "tasks": num_tasks,
                    "fill_s": filled,
                    "pairs": asdict(pairs),
                    "burst": asdict(burst),
                }
            )
            report, lease = pairs.report, pairs.lease
            print(
                f"{num_tasks:>9} tasks: {report.n / pairs.seconds:.0f} pairs/s; "
                f"lease p50 {lease.p50_ms} p99 {lease.p99_ms} ms; "
                f"report p50 {report.p50_ms} p99 {report.p99_ms} ms; "
                f"failed {pairs.failed}; burst {burst.lease.n / burst.leasing_s:.0f} "
                f"leases/s p99 {burst.lease.p99_ms} ms",
                flush=True,
            )
    json.dump({"machine": machine(), "options": vars(options), "rows": rows}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
