"""`kill -9` of a replica between a draw and its budget: whoever is asked again decides, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from etude_proto.v1 import PromptBatch
from etude_sampler.embedded import RunningServer
from support.replaying import replayed
from support.sampler_app import Api, parse, query, sampler_app
from support.sampler_app_proxy import digest, redis_proxy
from support.sampler_app_redis import check_laws
from support.sampler_app_replica import replica
from support.workload import report_of

pytestmark = pytest.mark.chaos


async def test_a_draw_without_an_allotment_gets_one_from_the_next_call(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    async with sampler_app(database_url, valkey.url) as survivor:
        run = await survivor.create_run(mode="curriculum_only", curriculum={"preset": "cures"})
        await survivor.reported(await survivor.lease(run.id, 12))
        path = f"/v1/runs/{run.id}/prompt-batches"
        body = {"num_tasks": 6, "worker": "worker"}
        async with (
            redis_proxy(valkey, short_folder) as (hot, hot_url),
            httpx.AsyncClient(timeout=60.0) as http,
            replica(database_url, hot_url, log=short_folder / "log") as victim,
        ):
            hot.hold(digest("allot"))
            call = Api(http).post(victim.url + path, body, key="once")
            waiting = asyncio.create_task(call)
            await asyncio.wait_for(hot.struck.wait(), 20.0)
            victim.kill()
            (failed,) = await asyncio.gather(waiting, return_exceptions=True)
            assert isinstance(failed, httpx.TransportError)
        assert (await survivor.counts(run.id)).num_leased == 6, "drawn, but nobody was told"
        answers = [await survivor.post(path, body, key="once") for _ in range(2)]
        assert answers[0].content == answers[1].content
        batch = parse(answers[0], PromptBatch)
        numbers = [item.num_rollouts for item in batch.items]
        assert sum(numbers) == 6 * 4
        assert len(set(numbers)) > 1
        await survivor.reported(batch, report_of(batch))
        check_laws(valkey.url, run.id, num_tasks=12)
        report = await replayed(database_url, run.id, redis_url=valkey.url)
        assert (report.verdict, report.differences) == ("same", [])
        counted = "SELECT count(*)::int FROM decisions WHERE run_id = %s AND kind = 'budget'"
        assert query(database_url, counted, run.id) == [(2,)]
