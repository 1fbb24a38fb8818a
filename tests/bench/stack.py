"""A durable stack for benchmarks: embedded PostgreSQL and Valkey, filled, and a serving sampler."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import (
    CurriculumConfig,
    DatasetCreate,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
    TaskCreate,
    task_id,
)
from etude_sampler.embedded import start_embedded
from etude_sampler.store.postgres.catalog import encode_task
from etude_sampler.store.postgres.migrate import upgrade

SUBTASKS = ["format", "tool_name", "param_name", "param_value"]
GOLD = {"kind": "toolrl", "text": "<think> so </think>"}
"""Without it no run that trains can be created; nothing is scored here."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running sampler, where its servers are, and its first process."""

    url: str
    dsn: str
    redis_url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Calls of one kind, in milliseconds."""

    n: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Load:
    """What one load run measured."""

    seconds: float
    failed: int
    leasing_s: float
    """From the start to the last lease: a burst ends early when every task is leased."""
    lease: Latency
    report: Latency


def machine() -> str:
    """The machine, in words, for tables."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(workers: int) -> Iterator[Stack]:
    """Durable servers (PostgreSQL fsync on, Valkey AOF everysec) and `workers` replicas."""
    root = Path(tempfile.mkdtemp(prefix="etude-bench-"))
    servers = start_embedded(root)
    upgrade(servers.database_url)
    port = free_port()
    environment = os.environ | {
        "ETUDE_DATABASE_URL": servers.database_url,
        "ETUDE_REDIS_URL": servers.redis_url,
        "ETUDE_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "etude_sampler", "serve", "--port", str(port)]
    sampler = subprocess.Popen([*command, "--workers", str(workers)], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, sampler)
        dsn = servers.database_url.replace("postgresql+asyncpg", "postgresql")
        yield Stack(url, dsn, servers.redis_url, sampler.pid)
    finally:
        sampler.send_signal(signal.SIGINT)
        sampler.wait(timeout=30)
        servers.stop()
        shutil.rmtree(root, ignore_errors=True)


def _wait(url: str, sampler: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(EtudeError), EtudeClient(url, max_attempts=1) as client:
            client.readyz()
            return
        if sampler.poll() is not None:
            break
    raise RuntimeError("the sampler did not become ready")


def fill(
    stack: Stack,
    num_tasks: int,
    *,
    task_bytes: int,
    mode: RunMode = RunMode.CURRICULUM_ONLY,
    limits: RunLimits | None = None,
) -> Run:
    """A dataset of `num_tasks` call tasks (by COPY: imports are not what is measured) and a run."""
    with EtudeClient(stack.url, timeout_s=600) as client:
        dataset = client.create_dataset(DatasetCreate(name=f"bench-{num_tasks}-{time.time_ns()}"))
        template = {
            "messages": [{"role": "user", "content": ""}],
            "subtasks": SUBTASKS,
            "reference": GOLD,
        }
        blank = len(
            encode_task(TaskCreate.model_validate(template), ordinal=0, identifier="x" * 29)
        )
        padding = "word " * max(1, (task_bytes - blank) // 5)
        copy = "COPY tasks (dataset_id, ordinal, id, split, source, subtasks, body) FROM STDIN"
        with psycopg.connect(stack.dsn) as connection, connection.cursor() as cursor:
            with cursor.copy(copy) as rows:
                for ordinal in range(num_tasks):
                    template["messages"] = [{"role": "user", "content": f"{ordinal} {padding}"}]
                    identifier, body = _encode(template, ordinal)
                    rows.write_row(
                        (dataset.id, ordinal, identifier, "train", "bench", SUBTASKS, body)
                    )
            cursor.execute(
                "UPDATE datasets SET num_tasks = %s WHERE id = %s", (num_tasks, dataset.id)
            )
        return client.create_run(
            RunCreate(
                name=f"bench-{num_tasks}",
                dataset_id=dataset.id,
                curriculum=CurriculumConfig(preset="dscl"),
                mode=mode,
                group_size=8,
                limits=limits or RunLimits(cap_groups=65536, leases_per_worker=1024),
            )
        )


def _encode(template: dict[str, object], ordinal: int) -> tuple[str, bytes]:
    if ordinal == 0:
        task = TaskCreate.model_validate(template)
        return task_id(task), encode_task(task, ordinal=ordinal, identifier=task_id(task))
    identifier = f"task_{ordinal:024x}"
    content = {
        "id": identifier,
        "ordinal": ordinal,
        **template,
        "tools": [],
        "reference": GOLD,
        "source": "bench",
        "split": "train",
        "metadata": {},
    }
    return identifier, json.dumps(content, separators=(",", ":")).encode()


def wrk(stack: Stack, run: Run, *, mode: str, clients: int, seconds: int, batch: int) -> Load:
    """One load run, as wrk measured it."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is needed (Debian: apt-get install wrk)")
    script = Path(__file__).with_name("pairs.lua")
    command = [program, f"-t{clients}", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s"]
    environment = os.environ | {
        "BENCH_NONCE": f"{time.time_ns()}-",
        "BENCH_RUN": run.id,
        "BENCH_BATCH": str(batch),
        "BENCH_GROUP": str(run.group_size),
        "BENCH_MODE": mode,
    }
    found = subprocess.run(
        [*command, "-s", str(script), stack.url],
        env=environment,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    )
    line = next(row for row in found.stdout.splitlines() if row.startswith("RESULT "))
    found_json = json.loads(line.removeprefix("RESULT "))
    return Load(
        float(found_json["seconds"]),
        int(found_json["failed"]),
        float(found_json["leasing_s"]),
        Latency(**found_json["lease"]),
        Latency(**found_json["report"]),
    )
