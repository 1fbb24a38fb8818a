"""Replay of a run under test: wait until its log is drained, then draw everything again."""

from __future__ import annotations

import random
from collections.abc import Sequence

import psycopg

from etude_proto.v1 import PromptBatch, Run
from etude_sampler.service.context import make_context
from etude_sampler.service.replay import Replay, Span
from etude_sampler.service.replay_report import ReplayReport
from etude_sampler.store.postgres.catalog import PostgresCatalog
from etude_sampler.store.postgres.engine import create_engine
from etude_sampler.store.postgres.history import PostgresHistories

from .sampler_app import Api
from .sampler_app_redis import read_hot
from .waiting import wait_until
from .workload import report_of


async def replayed(
    database_url: str, run_id: str, *, redis_url: str | None = None, span: Span | None = None
) -> ReplayReport:
    """What replay says of a run; with `redis_url`, after its log is drained."""
    if redis_url is not None:
        url = redis_url

        async def drained() -> bool:
            return not read_hot(url, run_id).logged

        await wait_until(drained, what="the decision log is drained")
    engine = create_engine(database_url, pool_size=2, timeout_s=10.0)
    try:
        row = await PostgresCatalog(engine).get_run(run_id)
        async with PostgresHistories(engine).history(run_id) as history:
            replay = Replay(
                history, make_context(row), span=span or Span(), progress=lambda done, total: None
            )
            return await replay.run()
    finally:
        await engine.dispose()


def change(database_url: str, sql: str, *arguments: object) -> int:
    """Tamper with the database; the number of rows changed."""
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        return connection.execute(sql.encode(), arguments).rowcount


async def play(
    apis: Sequence[Api], run: Run, *, seed: int, num_steps: int = 40, version: int = 0
) -> int:
    """Draws, reports, part reports, releases, expiries, versions, pauses; the last version."""
    rng = random.Random(seed)
    held: list[PromptBatch] = []
    for number in range(num_steps):
        api = apis[number % len(apis)]
        kinds = ["lease", "lease", "report", "report", "part", "release", "expire", "announce"]
        kind = rng.choice([*kinds, "pause"])
        if kind == "lease" and sum(len(batch.items) for batch in held) > 16:
            kind = "report"
        if kind == "lease":
            held.append(await api.lease(run.id, rng.randrange(1, 6), worker=f"w{number}"))
        elif kind == "expire":
            await api.lease(run.id, 1, worker=f"x{number}", ttl_s=0.2)
        elif kind == "announce":
            version += 1
            await api.announced(run.id, version)
        elif kind == "pause":
            for verb in ("pause", "resume"):
                assert (await api.post(f"/v1/runs/{run.id}/{verb}")).status_code == 200
        elif held:
            batch = held.pop(rng.randrange(len(held)))
            assert batch.lease is not None
            if kind == "release":
                body = {"fence": batch.lease.fence}
                await api.post(f"/v1/leases/{batch.lease.id}/release", body)
                continue
            if kind == "part" and len(batch.items) > 1:
                rest = batch.model_copy(update={"items": batch.items[1:]})
                held.append(rest)
                batch = batch.model_copy(update={"items": batch.items[:1]})
            await api.reported(batch, report_of(batch, skill=0.4 + 0.05 * version))
    for batch in held:
        await apis[0].reported(batch)
    return version


async def played(*apis: Api, redis_url: str, num_steps: int = 40) -> Run:
    """A run with some history, all of it settled."""
    run = await apis[0].create_run(num_tasks=48, seed=11, mode="curriculum_only")
    await play(apis, run, seed=3, num_steps=num_steps)

    async def none_leased() -> bool:
        return not read_hot(redis_url, run.id).leased()

    await wait_until(none_leased, what="the last lease ends")
    return run
