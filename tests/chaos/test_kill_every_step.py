"""`kill -9` of a replica before each step of a report, or of a pooled draw: retries end well.

Byte for byte, from any replica, tokens included, whatever was done when the replica died.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from etude_proto.cargo import SAFETENSORS_MEDIA_TYPE
from etude_proto.v1 import PromptBatch, Receipt
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, query, sampler_app
from support.sampler_app_proxy import digest, postgres_proxy, redis_proxy
from support.sampler_app_redis import check_laws
from support.sampler_app_replica import replica
from support.workload import cargo
from support.workload_model import check_run

pytestmark = pytest.mark.chaos

STEPS = {
    "pin": ("redis", digest("pin"), b""),
    "stage": ("redis", digest("stage"), b""),
    "read": ("postgres", b"pg_advisory_xact_lock_shared", b""),
    "append": ("postgres", b"COPY", b""),
    "write": ("postgres", b"INSERT INTO task_statistics", b""),
    "commit": ("postgres", b"COMMIT;", b"INSERT INTO task_statistics"),
    "settle": ("redis", digest("settle"), b""),
}
"""Steps by the server that takes them, a word of the request, and one said before on the same
connection (the background commits, too)."""


async def die_before(
    step: str, survivor: Api, *, database_url: str, valkey: RunningServer, folder: Path
) -> None:
    """Kill a replica that is about to take a step of a report, then repeat the report twice."""
    folder.mkdir()
    run = await survivor.create_run()
    batch = await survivor.lease(run.id, 1)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id)
    path = f"/v1/leases/{batch.lease.id}/groups"
    async with (
        redis_proxy(valkey, folder) as (hot, hot_url),
        postgres_proxy(database_url, folder) as (cold, cold_url),
        httpx.AsyncClient(timeout=60.0) as http,
        replica(cold_url, hot_url, log=folder / "log") as victim,
    ):
        server, word, after = STEPS[step]
        proxy = {"redis": hot, "postgres": cold}[server]
        proxy.hold(word, after=after)
        call = Api(http).post(
            victim.url + path, body, key=f"once-{step}", content_type=SAFETENSORS_MEDIA_TYPE
        )
        waiting = asyncio.create_task(call)
        await asyncio.wait_for(proxy.struck.wait(), 20.0)
        victim.kill()
        (failed,) = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(failed, httpx.TransportError)
    answers = [
        await survivor.post(path, body, key=f"once-{step}", content_type=SAFETENSORS_MEDIA_TYPE)
        for _ in range(2)
    ]
    assert parse(answers[0], Receipt).groups[0].gate == "admitted"
    assert answers[0].content == answers[1].content
    stored = query(
        database_url,
        "SELECT response FROM receipts WHERE run_id = %s AND key = %s",
        run.id,
        f"once-{step}",
    )
    assert stored == [(answers[0].content,)]
    assert (await survivor.counts(run.id)).num_ready_groups == 1, "its tokens are there"
    check_laws(valkey.url, run.id, num_tasks=12)
    check_run(database_url, valkey.url, run)


async def test_a_retry_gets_the_same_receipt_whenever_the_replica_died(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    async with sampler_app(database_url, valkey.url) as survivor, asyncio.TaskGroup() as group:
        for step in STEPS:
            group.create_task(
                die_before(
                    step,
                    survivor,
                    database_url=database_url,
                    valkey=valkey,
                    folder=short_folder / step,
                )
            )


async def test_a_pooled_batch_is_chosen_though_the_replica_died(
    database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    """Killed between draw and choice: the retry chooses, and gets a whole batch."""
    async with (
        sampler_app(database_url, valkey.url) as survivor,
        redis_proxy(valkey, short_folder) as (hot, hot_url),
        httpx.AsyncClient(timeout=60.0) as http,
        replica(database_url, hot_url, log=short_folder / "log") as victim,
    ):
        run = await survivor.create_run(mode="curriculum_only", curriculum={"preset": "mopps"})
        path, body = f"/v1/runs/{run.id}/prompt-batches", {"num_tasks": 3, "worker": "worker"}
        hot.hold(digest("choose"))
        call = Api(http).post(victim.url + path, body, key="once")
        waiting = asyncio.create_task(call)
        await asyncio.wait_for(hot.struck.wait(), 20.0)
        victim.kill()
        (failed,) = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(failed, httpx.TransportError)
        check_laws(valkey.url, run.id, num_tasks=12)
        answers = [await survivor.post(path, body, key="once") for _ in range(2)]
        assert answers[0].content == answers[1].content
        batch = parse(answers[0], PromptBatch)
        assert len(batch.items) == 3
        assert check_laws(valkey.url, run.id, num_tasks=12).count("n_leased") == 3
        await survivor.reported(batch)
