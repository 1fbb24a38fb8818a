"""Exports and imports for tests, with nobody watching; and how many rows a database has."""

from __future__ import annotations

from pathlib import Path

from etude_proto.v1 import Run
from etude_sampler.archives.manifest import Manifest
from etude_sampler.archives.transfer import Imported, export_run, import_run
from etude_sampler.embedded import RunningServer
from etude_sampler.ports.races import RunKey
from etude_sampler.service.draining import drain_all
from etude_sampler.store.postgres.archive import plain_engine, statistics_digest
from etude_sampler.store.postgres.engine import raw
from etude_sampler.store.postgres.ledger import PostgresLedger
from etude_sampler.store.redis.connection import connect
from etude_sampler.store.redis.views import RedisRaces

from .sampler_app import Api, query
from .workload import report_of


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody sees, but that must make sense."""
    assert done >= 0, what
    assert total >= 0, what


async def written(database_url: str, run: str, target: Path, *, redis_url: str = "") -> Manifest:
    """Export a run; with `redis_url` after its log is drained, else with what there is."""
    engine = plain_engine(database_url, timeout_s=10.0)

    async def drain(run_id: str) -> None:
        if redis_url:
            client = connect(redis_url, pool_size=1, timeout_s=2.0)
            try:
                run = RunKey(run_id, 0, 0)
                await drain_all(PostgresLedger(engine), RedisRaces(client), run)
            finally:
                await client.aclose()

    try:
        return await export_run(engine, run, target, tell=silent, drain=drain)
    finally:
        await engine.dispose()


async def read(
    database_url: str, redis: RunningServer, source: Path, name: str | None = None
) -> Imported:
    """Import an archive."""
    engine = plain_engine(database_url, timeout_s=10.0)
    client = connect(redis.url, pool_size=1, timeout_s=10.0)
    try:
        forget = RedisRaces(client).forget
        return await import_run(engine, source, name=name, tell=silent, forget=forget)
    finally:
        await client.aclose()
        await engine.dispose()


async def digest(database_url: str, run_id: str) -> str:
    """Digest of a run's statistics."""
    engine = plain_engine(database_url, timeout_s=10.0)
    try:
        async with raw(engine) as connection:
            return await statistics_digest(connection, run_id)
    finally:
        await engine.dispose()


async def practise(api: Api, run: Run, versions: int = 2) -> None:
    """Some batches and versions of a curriculum-only run."""
    first = (await api.view(run.id)).policy_version
    for version in range(first + 1, first + versions + 1):
        await api.reported(batch := await api.lease(run.id, 5), report_of(batch))
        await api.announced(run.id, version)
    await api.reported(batch := await api.lease(run.id, 3), report_of(batch))


def everything(database_url: str) -> list[tuple[object, ...]]:
    """How many rows every table of a database has."""
    names = query(
        database_url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p') ORDER BY relname",
    )
    return [(name, *query(database_url, f"SELECT count(*) FROM {name}")) for (name,) in names]
