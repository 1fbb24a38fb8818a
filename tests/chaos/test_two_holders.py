"""Two replicas that both believe they hold a task, interleaved at every step boundary; invariant 2.

Replica A is stopped inside a report, before each of its steps in turn, and its lease runs out. B
leases the tasks as soon as it can and reports them, stopped before each of its own steps while A
goes on. Whatever the order: every task's groups are counted in the order of their fences, no group
twice, and A's group counts only if it was committed before B could have the task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from etude_proto.v1 import PromptBatch, Receipt, Run
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_proxy import FaultProxy, digest, postgres_proxy, redis_proxy
from support.sampler_app_redis import check_laws
from support.waiting import wait_until
from support.workload import report_of
from support.workload_model import check_run

pytestmark = pytest.mark.chaos

STEPS = {
    "pin": ("redis", digest("pin")),
    "read": ("postgres", b"pg_advisory_xact_lock_shared"),
    "append": ("postgres", b"COPY"),
    "write": ("postgres", b"INSERT INTO task_statistics"),
    "commit": ("postgres", b"COMMIT;"),
    "settle": ("redis", digest("settle")),
}
"""Steps of a report, by the server that takes them and a word of the request."""
LOCKED = ("append", "write", "commit")
"""Before these steps the report holds the run's lock: its lease cannot end."""
NUM_TASKS = 4
PATIENCE_S = 60.0
"""Nothing may end by a time limit while it is held, however loaded the machine is."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A sampler whose requests can be held."""

    api: Api
    proxies: dict[str, FaultProxy]

    def hold(self, step: str) -> None:
        """Stop the next call that is about to take the step."""
        server, word = STEPS[step]
        # Others commit, too: the background reads in transactions.
        after = STEPS["write"][1] if step == "commit" else b""
        self.proxies[server].hold(word, after=after)

    async def held(self, step: str, call: asyncio.Task[httpx.Response]) -> bool:
        """Wait until the call is stopped before the step; False if it ends first."""
        struck = asyncio.create_task(self.proxies[STEPS[step][0]].struck.wait())
        await asyncio.wait({struck, call}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
        found = struck.done()
        struck.cancel()
        return found

    def let_go(self, step: str) -> None:
        """Go on."""
        self.proxies[STEPS[step][0]].let_go()


@asynccontextmanager
async def two_replicas(
    database_url: str, valkey: RunningServer, folder: Path
) -> AsyncIterator[list[Replica]]:
    """Two replicas on the same servers, each behind proxies of its own."""
    async with AsyncExitStack() as stack:
        made = []
        for name in ("a", "b"):
            own = folder / name
            own.mkdir()
            hot, hot_url = await stack.enter_async_context(redis_proxy(valkey, own))
            cold, cold_url = await stack.enter_async_context(postgres_proxy(database_url, own))
            api = await stack.enter_async_context(
                sampler_app(cold_url, hot_url, dependency_timeout_s=PATIENCE_S)
            )
            made.append(Replica(api, {"redis": hot, "postgres": cold}))
        yield made


async def run_out(valkey: RunningServer, batch: PromptBatch) -> None:
    """The lease's deadline passes."""
    assert batch.lease is not None
    async with Redis.from_url(valkey.url) as redis:
        key = f"etude:{{{batch.lease.run_id}}}:leases"
        assert await redis.zadd(key, {batch.lease.id: 1}, xx=True, ch=True) == 1


async def leased_again(api: Api, run: Run, *, within_s: float = PATIENCE_S) -> PromptBatch | None:
    """All tasks under a new lease, if they can be had in time."""
    found: list[PromptBatch] = []

    async def leased() -> bool:
        batch = parse(await api.try_lease(run.id, NUM_TASKS), PromptBatch)
        if batch.lease is not None:
            found.append(batch)
        return bool(found)

    try:
        await wait_until(leased, what="leased again", timeout_s=within_s)
    except AssertionError:
        return None
    return found[0]


def verdicts(database_url: str, batch: PromptBatch) -> set[object]:
    """What the ledger says of a lease's groups."""
    assert batch.lease is not None
    rows = query(
        database_url, "SELECT DISTINCT verdict FROM ledger WHERE lease_id = %s", batch.lease.id
    )
    return {verdict for (verdict,) in rows}


def was_counted(database_url: str, batch: PromptBatch, answer: httpx.Response) -> bool:
    """Whether a lease's groups count; its answer and the ledger must agree."""
    if answer.status_code == 200:
        parse(answer, Receipt)
        assert verdicts(database_url, batch) == {"applied"}
        return True
    problem(answer, 409, "lease_superseded")
    assert verdicts(database_url, batch) == {"late"}
    return False


async def interleave(
    first: str, second: str, *, database_url: str, valkey: RunningServer, folder: Path
) -> None:
    """Stop A before its step `first`, let its lease run out, stop B before its step `second`."""
    folder.mkdir()
    async with two_replicas(database_url, valkey, folder) as (a, b):
        run = await a.api.create_run(num_tasks=NUM_TASKS, mode="curriculum_only")
        old = await a.api.lease(run.id, NUM_TASKS, ttl_s=600)
        a.hold(first)
        report_a = asyncio.create_task(a.api.report(old, key="a"))
        assert await a.held(first, report_a)
        await run_out(valkey, old)
        if first in LOCKED:
            assert await leased_again(b.api, run, within_s=1.5) is None, "leased during a commit"
            a.let_go(first)
            assert was_counted(database_url, old, await report_a)
        new = await leased_again(b.api, run)
        assert new is not None
        assert new.lease is not None
        assert old.lease is not None
        assert new.lease.fence > old.lease.fence
        if first == "read":  # a retry overtakes the try that is stopped: both are late
            problem(await b.api.report(old, key="a"), 409, "lease_superseded")
        b.hold(second)
        report_b = asyncio.create_task(b.api.report(new, report_of(new, skill=0.8)))
        assert await b.held(second, report_b)
        a.let_go(first)
        if second not in LOCKED:  # there A has to wait for B
            await asyncio.wait({report_a}, timeout=PATIENCE_S)
        b.let_go(second)
        counted = was_counted(database_url, old, await report_a)
        assert counted == (first in (*LOCKED, "settle"))
        assert was_counted(database_url, new, await report_b)
        seen = query(
            database_url, "SELECT DISTINCT n FROM task_statistics WHERE run_id = %s", run.id
        )
        assert seen == [(1 + counted,)]

        async def all_back() -> bool:
            return (await a.api.counts(run.id)).num_leased == 0

        await wait_until(all_back, what="every task is back", timeout_s=PATIENCE_S)
        check_laws(valkey.url, run.id, num_tasks=NUM_TASKS)
        check_run(database_url, valkey.url, run)


@pytest.mark.parametrize("first", STEPS)
async def test_invariant_2_exclusive_lease_when_two_replicas_hold_a_task(
    first: str, database_url: str, valkey: RunningServer, short_folder: Path
) -> None:
    async with asyncio.TaskGroup() as group:
        for second in STEPS:
            group.create_task(
                interleave(
                    first,
                    second,
                    database_url=database_url,
                    valkey=valkey,
                    folder=short_folder / second,
                )
            )
