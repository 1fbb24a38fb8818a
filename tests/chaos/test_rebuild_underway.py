"""Redis is emptied between a version's commit and the re-weighing that follows its announcement."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from etude_proto.v1 import AckReceipt
from etude_sampler.embedded import RunningServer
from support.sampler_app import parse, problem, sampler_app
from support.sampler_app_proxy import digest, redis_proxy
from support.waiting import wait_until

pytestmark = pytest.mark.chaos


async def test_an_announcement_that_meets_a_rebuild_may_come_again(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    async with (
        redis_proxy(valkey, short_folder) as (proxy, url),
        sampler_app(database_url, url) as api,
    ):
        run = await api.create_run(mode="curriculum_only")
        await api.reported(await api.lease(run.id, 4))
        path = f"/v1/runs/{run.id}/policy-versions"
        proxy.hold(digest("reweigh"))
        for version in range(1, 40):  # until tasks seen at version 0 are old enough to re-weigh
            body = {"policy_version": version}
            call = asyncio.create_task(api.post(path, body, key=f"once-{version}"))
            struck = asyncio.create_task(proxy.struck.wait())
            await asyncio.wait({call, struck}, return_when=asyncio.FIRST_COMPLETED)
            if struck.done():
                break
            struck.cancel()
        assert proxy.struck.is_set()
        async with Redis.from_url(valkey.url) as redis:
            keys = [key async for key in redis.scan_iter(match=f"etude:{{{run.id}}}:*")]
            await redis.delete(*keys)
        proxy.let_go()
        answer = await call
        if answer.status_code != 200:  # 200: the rebuild was the quicker
            assert problem(answer, 503, answer.json()["code"]).retryable

        async def announced() -> bool:
            answer = await api.post(path, body, key=f"once-{version}")
            return answer.status_code == 200

        await wait_until(announced, what="the retry gets its receipt", timeout_s=20.0)
        receipt = parse(await api.post(path, body, key=f"once-{version}"), AckReceipt)
        assert receipt.policy_version == version
