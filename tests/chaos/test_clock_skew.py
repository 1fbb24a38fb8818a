"""Wall clocks an hour wrong, on any replica and any client, change nothing; invariants 2 and 8.

Replicas and a client run under a preloaded library that shifts their wall clock by an hour either
way. Leases live exactly as long as Redis says, and the same calls draw the same batches and give
the same statistics as on replicas whose clocks are right.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from etude_proto.v1 import Run
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, sampler_app
from support.sampler_app_redis import check_laws
from support.sampler_app_replica import replica
from support.servers import Servers
from support.tree import ROOT
from support.waiting import wait_until
from support.workload_model import check_run, stored_statistics

pytestmark = pytest.mark.chaos

HOUR_S = 3600
SLACK_S = 120.0


@pytest.fixture(scope="module")
def skewed_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that shifts the wall clock."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the shifted clock is a preloaded C library")
    library = tmp_path_factory.mktemp("clock") / "skewed_clock.so"
    source = ROOT / "tests" / "support" / "skewed_clock.c"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


def skewed(library: Path, seconds: int) -> dict[str, str]:
    """Variables of a process whose wall clock is wrong."""
    return {"LD_PRELOAD": str(library), "ETUDE_TEST_SKEW_S": str(seconds)}


async def clock_of(api: Api) -> float:
    """A replica's wall clock, from the date of its answers."""
    return email.utils.parsedate_to_datetime((await api.get("/livez")).headers["date"]).timestamp()


async def work(apis: list[Api], run: Run) -> list[list[int]]:
    """Twelve batches through the replicas in turn, leased by one and reported to another."""
    drawn = []
    for number in range(12):
        leasing, reporting = apis[number % len(apis)], apis[(number + 1) % len(apis)]
        batch = await leasing.lease(run.id, 3, ttl_s=30.0)
        drawn.append([item.task.ordinal for item in batch.items])
        await reporting.reported(batch)
        if number % 4 == 3:
            await leasing.announced(run.id, number // 4 + 1)
    return drawn


async def live_as_long_as_redis_says(apis: list[Api], run: Run) -> None:
    """A lease of a minute outlives many rounds of every replica's reaper; a short one ends."""
    kept = await apis[0].lease(run.id, 2, ttl_s=60.0)
    short = await apis[1].lease(run.id, 2, ttl_s=1.0)
    assert short.lease is not None

    async def ended() -> bool:
        return (await apis[0].counts(run.id)).num_leased == 2

    await wait_until(ended, what="the short lease ends, the other lives", timeout_s=20.0)
    await apis[1].reported(kept)


async def test_shifted_replicas_draw_and_count_the_same(
    servers: Servers, valkey: RunningServer, skewed_clock: Path, short_folder: Path
) -> None:
    async with AsyncExitStack() as stack:
        right_url, wrong_url = (stack.enter_context(servers.database()) for _ in range(2))
        right = await stack.enter_async_context(sampler_app(right_url, valkey.url))
        wrong = []
        for shift in (HOUR_S, -HOUR_S):
            started = await stack.enter_async_context(
                replica(
                    wrong_url,
                    valkey.url,
                    log=short_folder / f"{shift}.log",
                    environment=skewed(skewed_clock, shift),
                )
            )
            http = httpx.AsyncClient(base_url=started.url, timeout=30.0)
            wrong.append(Api(await stack.enter_async_context(http)))
            assert abs(await clock_of(wrong[-1]) - time.time() - shift) < SLACK_S
        runs = [await api.create_run(mode="curriculum_only") for api in (right, wrong[0])]
        assert await work([right], runs[0]) == await work(wrong, runs[1])
        (first, second) = (
            stored_statistics(url, run.id)
            for url, run in zip((right_url, wrong_url), runs, strict=True)
        )
        assert first == second
        await live_as_long_as_redis_says(wrong, runs[1])
        check_laws(valkey.url, runs[1].id, num_tasks=12)


@pytest.mark.parametrize("shift", [HOUR_S, -HOUR_S])
async def test_a_shifted_client_is_served_like_any_other(
    shift: int, database_url: str, valkey: RunningServer, skewed_clock: Path, short_folder: Path
) -> None:
    async with (
        sampler_app(database_url, valkey.url) as api,
        replica(database_url, valkey.url, log=short_folder / "log") as started,
    ):
        run = await api.create_run(mode="curriculum_only")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "support.skewed_client", started.url, run.id),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                **skewed(skewed_clock, shift),
            },
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 60.0)
        said = json.loads(output)
        assert abs(said["clock_s"] - time.time() - shift) < SLACK_S
        assert said["ttl_s"] == 30.0
        assert said["verdicts"] == ["applied"] * 4
        check_laws(valkey.url, run.id, num_tasks=12)
        check_run(database_url, valkey.url, run)
