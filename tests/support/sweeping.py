"""Time that has passed, a sweeper by hand, and steps of a run, for tests of retention."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg

from etude_proto.v1 import Run
from etude_sampler.app import connected
from etude_sampler.embedded import RunningServer
from etude_sampler.ports.retention import Dropped
from etude_sampler.service.sampler import Sampler
from etude_sampler.settings import Settings

from .sampler_app import Api, problem
from .workload import report_of

_AGED = (
    *("receipts", "ended_leases", "ledger", "policy_versions", "restores", "idempotency"),
    "checkpoints",
)


@asynccontextmanager
async def operated(database_url: str, redis: RunningServer) -> AsyncIterator[Sampler]:
    """A wired sampler without background, as `etude gc` makes one."""
    urls = {"database_url": database_url, "redis_url": redis.url}
    async with connected(Settings.model_validate(urls)) as sampler:
        yield sampler


def change(database_url: str, sql: str, *arguments: object) -> None:
    """Change the sampler's database behind its back."""
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        connection.execute(sql.encode(), arguments)


def age(database_url: str, days: int = 400) -> None:
    """All that is there was written so many days earlier."""
    back = f"- interval '{days} days'"
    for table in _AGED:
        change(database_url, f"UPDATE {table} SET created_at = created_at {back}")
    change(database_url, f"UPDATE decisions SET at_ms = at_ms - {days}::bigint * 86400000")


def by_kind(found: Sequence[Dropped], run_id: str) -> dict[str, int]:
    """Rows by kind, of one run."""
    return {one.kind: one.num_rows for one in found if one.run_id == run_id}


async def act(api: Api, run: Run, step: str, version: int) -> object:
    """One step on one run; what it drew."""
    if step == "announce":
        return (await api.announced(run.id, version)).component_weights
    if step == "mark":
        return None
    batch = await api.lease(run.id, 3)
    if step == "late":
        assert batch.lease is not None
        await api.post(f"/v1/leases/{batch.lease.id}/release", {"fence": batch.lease.fence})
        problem(await api.report(batch), 409, "lease_superseded")
    else:
        await api.reported(batch, report_of(batch, skill=0.6))
    return [(item.task.id, item.lane, item.weight, item.entry) for item in batch.items]
