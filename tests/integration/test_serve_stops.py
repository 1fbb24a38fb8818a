"""`etude serve` is told to stop while callers wait: they are answered at once, and it ends."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx

from etude_proto.v1 import DegradedReason, PromptBatch, TrainingBatch
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, frame, parse
from support.sampler_app_replica import replica
from support.waiting import wait_until

_AT_ONCE_S = 4.0
"""Far below the 25 s that the callers would wait, and below the 5 s after which they are cut."""


async def test_long_polls_are_answered_when_the_sampler_stops(
    database_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    async with (
        replica(database_url, valkey.url, log=tmp_path / "log") as served,
        httpx.AsyncClient(base_url=served.url, timeout=60.0) as http,
    ):
        api = Api(http)
        run = await api.create_run(num_tasks=4)
        await api.lease(run.id, 4)
        prompts = [asyncio.create_task(api.try_lease(run.id, 4, wait_s=25)) for _ in range(3)]
        training = asyncio.create_task(api.try_train(run.id, wait_s=25))

        async def all_wait() -> bool:
            lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
            port = f":{httpx.URL(served.url).port:04X}"
            taken = [line for line in lines if line[1].endswith(port) and line[3] == "01"]
            return len(taken) >= 4 and not any(int(line[4].split(":")[1], 16) for line in taken)

        await wait_until(all_wait, what="the sampler has read all four calls")
        assert (await api.get("/livez")).status_code == 200
        assert not any(task.done() for task in (*prompts, training))
        served.process.send_signal(signal.SIGTERM)
        answers = await asyncio.wait_for(asyncio.gather(*prompts, training), _AT_ONCE_S)
        for answer in answers[:3]:
            batch = parse(answer, PromptBatch)
            assert (batch.lease, batch.items) == (None, [])
            assert batch.degraded_reason is DegradedReason.NOTHING_WAITING
        manifest: TrainingBatch = frame(answers[3]).manifest
        assert manifest.lease is None
        assert manifest.degraded_reason is DegradedReason.NOT_READY
        await asyncio.to_thread(served.process.wait, 20)
    assert "Traceback" not in (tmp_path / "log").read_text()
