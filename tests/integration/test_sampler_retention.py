"""Sweeping by age: what is kept never misses what went (invariants 5, 9 and 10)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from redis import Redis

from etude_proto.v1 import Checkpoint, Retention, Run
from etude_sampler.app import connected
from etude_sampler.embedded import RunningServer
from etude_sampler.errors import IllegalTransition
from etude_sampler.ports.retention import KINDS, Dropped
from etude_sampler.service.sampler import Sampler
from etude_sampler.settings import Settings
from etude_sampler.store.postgres.archive import plain_engine, statistics_digest
from etude_sampler.store.postgres.engine import raw
from support.sampler_app import Api, parse, problem, query
from support.waiting import wait_until
from support.workload import report_of, task

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


async def digest(database_url: str, run_id: str) -> str:
    """Digest of a run's statistics."""
    engine = plain_engine(database_url, timeout_s=10.0)
    try:
        async with raw(engine) as connection:
            return await statistics_digest(connection, run_id)
    finally:
        await engine.dispose()


def by_kind(found: list[Dropped], run_id: str) -> dict[str, int]:
    """Rows by kind, of one run."""
    return {one.kind: one.num_rows for one in found if one.run_id == run_id}


async def checkpoint(api: Api, run: Run) -> Checkpoint:
    """A pinned checkpoint of now."""
    answer = await api.post(f"/v1/runs/{run.id}/checkpoints", {"label": "kept"})
    return parse(answer, Checkpoint, answer.status_code)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_sweeping_at_any_moment_changes_nothing_that_counts(
    valkey_api: Api, database_url: str, valkey: RunningServer, seed: int
) -> None:
    """Two runs of one seed live through the same calls; one is swept now and then.

    Batches, statistics, curriculum, a rebuild, a restore of a kept checkpoint and a fork of it
    must be the same in both.
    """
    api, rng = valkey_api, random.Random(seed)
    dataset = await api.create_dataset("twins", tasks=[task(number) for number in range(12)])
    swept, plain = [
        await api.create_run(name=name, dataset_id=dataset, seed=seed, mode="curriculum_only")
        for name in ("swept", "plain")
    ]
    marks: list[Checkpoint] = []
    dropped: dict[str, int] = {}
    async with operated(database_url, valkey) as sampler:
        version = 0
        for _ in range(24):
            step = rng.choice(["report", "report", "announce", "late", "mark", "sweep", "sweep"])
            if step == "sweep":
                age(database_url)
                for one in await sampler.sweeper.sweep(swept.id):
                    dropped[one.kind] = dropped.get(one.kind, 0) + one.num_rows
                continue
            version += step == "announce"
            drawn = [await _act(api, run, step, version) for run in (swept, plain)]
            assert drawn[0] == drawn[1]
            if step == "mark":
                marks = [await checkpoint(api, run) for run in (swept, plain)]
        if not marks:
            marks = [await checkpoint(api, run) for run in (swept, plain)]
        kept = await digest(database_url, swept.id)
        for run in (swept, plain):
            await _act(api, run, "report", version)
        assert await digest(database_url, swept.id) == await digest(database_url, plain.id)
        assert await _curriculum(api, swept) == await _curriculum(api, plain)
        for run, mark in zip((swept, plain), marks, strict=True):
            await api.post(f"/v1/runs/{run.id}/restore", {"checkpoint_id": mark.id})
            await api.loaded(run.id)
        age(database_url)
        await sampler.sweeper.sweep(swept.id)
        assert await digest(database_url, swept.id) == await digest(database_url, plain.id)
        assert await _curriculum(api, swept) == await _curriculum(api, plain)
        before = await digest(database_url, swept.id)
        for run in (swept, plain):
            assert await sampler.rebuilder.rebuild(run.id) is not None
            await api.loaded(run.id)
        assert await digest(database_url, swept.id) == before
        drawn = [await _act(api, run, "report", 0) for run in (swept, plain)]
        assert drawn[0] == drawn[1]
    assert kept
    assert dropped.get("outcomes") or dropped.get("receipts"), dropped


async def _act(api: Api, run: Run, step: str, version: int) -> object:
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


async def _curriculum(api: Api, run: Run) -> object:
    view = await api.view(run.id)
    same = {"policy_version", "subtasks", "lanes", "arms", "num_groups_applied"}
    return view.model_dump(include=same)


async def test_each_kind_goes_at_its_age_and_no_sooner(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """A dry run names exactly what a sweep drops; a second sweep finds nothing."""
    api = valkey_api
    run = await api.create_run(num_tasks=12, mode="curriculum_only")
    await _act(api, run, "late", 0)
    for version in (1, 2):
        await _act(api, run, "report", version)
        await api.announced(run.id, version)
    await _act(api, run, "report", 2)

    reports = "SELECT count(*) FROM decisions WHERE kind = 'report'"

    async def drained() -> bool:
        return query(database_url, reports) == [(3,)]

    await wait_until(drained, what="the decisions are in PostgreSQL")
    ((num_decisions,),) = query(database_url, "SELECT count(*) FROM decisions")
    async with operated(database_url, valkey) as sampler:
        assert by_kind(await sampler.sweeper.due(run.id), run.id) == {}
        age(database_url, days=31)
        assert by_kind(await sampler.sweeper.due(run.id), run.id) == {
            "receipts": 5,
            "leases": 1,
            "late": 3,
        }
        age(database_url)
        due = by_kind(await sampler.sweeper.due(run.id), run.id)
        assert due == {
            "receipts": 5,
            "leases": 1,
            "late": 3,
            "decisions": num_decisions,
            "outcomes": 6,
        }
        assert by_kind(await sampler.sweeper.sweep(run.id), run.id) == due
        assert await sampler.sweeper.sweep(run.id) == []
    rows = query(database_url, "SELECT verdict, outcomes->'reward' = '[]' FROM ledger ORDER BY 2")
    assert rows == [("applied", False)] * 3 + [("applied", True)] * 6, "not folded: whole"
    seen = await api.get(f"/v1/runs/{run.id}/tasks", limit=1000)
    for one in seen.json()["items"]:
        recent = (await api.task(run.id, one["id"])).recent
        assert all(entry.policy_version >= 0 for entry in recent)
    assert len((await api.get(f"/v1/runs/{run.id}/history")).json()["items"]) >= 2


async def test_a_report_without_its_receipt_still_counts_once(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Who retries after the receipt is gone is told that the lease is over."""
    run = await valkey_api.create_run(num_tasks=6, mode="curriculum_only")
    batch = await valkey_api.lease(run.id, 3)
    await valkey_api.reported(batch, report_of(batch), key="again")
    before = await digest(database_url, run.id)
    age(database_url)
    async with operated(database_url, valkey) as sampler:
        await sampler.sweeper.sweep(run.id)
    problem(await valkey_api.report(batch, report_of(batch), key="again"), 409, "lease_superseded")
    assert await digest(database_url, run.id) == before
    assert (await valkey_api.view(run.id)).num_groups_applied == 3
    assert query(database_url, "SELECT count(*) FROM ledger") == [(3,)]


async def test_a_discarded_future_goes_but_for_what_a_fork_needs(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """A checkpoint of that future can still be forked, with its groups that were not folded."""
    api = valkey_api
    run = await api.create_run(num_tasks=12, mode="curriculum_only")
    await _act(api, run, "report", 0)
    early = await checkpoint(api, run)
    await _act(api, run, "report", 0)
    await api.announced(run.id, 1)
    await _act(api, run, "report", 1)
    late = await checkpoint(api, run)
    pending = await digest(database_url, run.id)
    answer = await api.post(f"/v1/runs/{run.id}/restore", {"checkpoint_id": early.id})
    assert answer.status_code == 200, answer.text
    await api.loaded(run.id)
    kept = await digest(database_url, run.id)
    age(database_url)
    async with operated(database_url, valkey) as sampler:
        gone = by_kind(await sampler.sweeper.sweep(run.id), run.id)
    assert gone["discarded"] == 3, "3 groups were folded, 3 are pending in the checkpoint"
    assert query(database_url, "SELECT count(*) FROM ledger") == [(6,)]
    assert query(database_url, "SELECT count(*) FROM discarded_versions") == [(0,)]
    assert await digest(database_url, run.id) == kept
    forked = await api.post(f"/v1/runs/{run.id}/fork", {"name": "fork", "checkpoint_id": late.id})
    assert forked.status_code == 201, forked.text
    fork = Run.model_validate_json(forked.content)
    assert await digest(database_url, fork.id) == pending
    assert (await api.announced(fork.id, 2)).num_groups == 3


async def test_a_turn_is_bounded_and_one_replica_sweeps(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """A statement drops at most what it was told; a second sweeper is sent away."""
    run = await valkey_api.create_run(num_tasks=6, mode="curriculum_only")
    for _ in range(4):
        await _act(valkey_api, run, "report", 0)
    age(database_url)
    async with operated(database_url, valkey) as sampler:
        keeper, keep = sampler.sweeper._keeper, Retention()
        assert await keeper.drop(run.id, "receipts", keep, limit=3) == 3
        assert await keeper.count(run.id, "receipts", keep) == 1
        for kind in KINDS:
            never = Retention.model_validate(dict.fromkeys(Retention.model_fields))
            assert await keeper.drop(run.id, kind, never, limit=10) == 0
        async with keeper.only_one() as mine:
            assert mine
            with pytest.raises(IllegalTransition, match="another replica is sweeping"):
                await sampler.sweeper.sweep(run.id)
            await sampler.sweeper.turn()
            assert await keeper.count(run.id, "receipts", keep) == 1
        await sampler.sweeper.turn()
        assert await keeper.count(run.id, "receipts", keep) == 0


async def test_policies_are_checked_against_the_leases(valkey_api: Api) -> None:
    """A receipt must outlive every retry of its report."""
    dataset = await valkey_api.create_dataset("one", tasks=[task(1)])
    limits = {"training_lease_ttl_s": 7200, "retention": {"receipts_s": 3600}}
    body = {"name": "x", "dataset_id": dataset, "limits": limits}
    problem(await valkey_api.post("/v1/runs", body), 422, "payload_invalid")
    body["limits"] = {"retention": {"receipts_s": 1}}
    problem(await valkey_api.post("/v1/runs", body), 422, "payload_invalid")


def rows_of(database_url: str, run_id: str) -> dict[str, object]:
    """Rows of a run in every table that has some."""
    tables = query(
        database_url,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE a.attname = 'run_id' AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
    )
    found = {
        str(name): query(database_url, f"SELECT count(*) FROM {name} WHERE run_id = %s", run_id)
        for (name,) in tables
    }
    return {name: rows for name, rows in found.items() if rows != [(0,)]}


async def test_a_deleted_run_is_gone_at_once_and_its_rows_soon(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Only a paused run without live leases; its ledger goes as a table; others stay."""
    api = valkey_api
    run = await api.create_run(num_tasks=12, mode="curriculum_only", name="doomed")
    other = await api.create_run(name="other", dataset_id=run.dataset_id, mode="curriculum_only")
    await _act(api, run, "report", 0)
    await _act(api, other, "report", 0)
    await api.announced(run.id, 1)
    stays = rows_of(database_url, other.id)
    path = f"/v1/runs/{run.id}"
    problem(await api.post(path, method="DELETE"), 409, "illegal_transition")
    live = await api.lease(run.id, 2)
    await api.post(f"{path}/pause")
    refused = problem(await api.post(path, method="DELETE"), 409, "illegal_transition")
    assert "1 leases are live" in refused.detail
    done = await api.post(f"{path}?force=true", method="DELETE", key="once")
    assert (done.status_code, done.json()) == (200, {"id": run.id, "name": "doomed"})
    again = await api.post(f"{path}?force=true", method="DELETE", key="once")
    assert (again.content, again.headers["Idempotent-Replayed"]) == (done.content, "true")
    assert (await api.post(path, method="DELETE")).json()["id"] == run.id
    problem(await api.get(path), 404, "run_not_found")
    problem(await api.report(live), 404, "lease_not_found")
    assert rows_of(database_url, run.id)
    with Redis.from_url(valkey.url) as redis:
        assert list(redis.scan_iter(match=f"*{run.id}*")) == []
    async with operated(database_url, valkey) as sampler:
        assert Dropped(run.id, "run", 1) in await sampler.sweeper.due()
        await sampler.sweeper.sweep()
        assert await sampler.sweeper.due() == []
    assert rows_of(database_url, run.id) == {}
    assert query(database_url, "SELECT to_regclass(%s)::text", f"ledger_{run.id}") == [(None,)]
    assert rows_of(database_url, other.id) == stays
    await _act(api, other, "report", 0)


async def test_a_dataset_goes_when_no_run_uses_it(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """Its name is free at once."""
    api = valkey_api
    run = await api.create_run(num_tasks=12, mode="curriculum_only", name="user")
    path = f"/v1/datasets/{run.dataset_id}"
    refused = problem(await api.post(path, method="DELETE"), 409, "illegal_transition")
    assert "user" in refused.detail
    name = (await api.get(path)).json()["name"]
    await api.post(f"/v1/runs/{run.id}/pause")
    await api.post(f"/v1/runs/{run.id}", method="DELETE")
    assert (await api.post(path, method="DELETE")).json() == {"id": run.dataset_id, "name": name}
    problem(await api.get(path), 404, "dataset_not_found")
    problem(await api.post(path, method="DELETE"), 404, "dataset_not_found")
    assert run.dataset_id not in (await api.get("/v1/datasets")).text
    assert await api.create_dataset(name) != run.dataset_id
    async with operated(database_url, valkey) as sampler:
        await sampler.sweeper.sweep()
    assert query(database_url, "SELECT count(*) FROM tasks") == [(0,)]
    assert query(database_url, "SELECT count(*) FROM datasets") == [(1,)]


async def test_a_purge_goes_on_where_it_was_interrupted(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """A snapshot held elsewhere keeps the ledger from going; no report of others waits for it."""
    api = valkey_api
    run = await api.create_run(num_tasks=12, mode="curriculum_only")
    other = await api.create_run(num_tasks=12, mode="curriculum_only")
    await _act(api, run, "report", 0)
    await api.post(f"/v1/runs/{run.id}/pause")
    await api.post(f"/v1/runs/{run.id}", method="DELETE")
    plain = database_url.replace("+asyncpg", "", 1)
    with psycopg.connect(plain) as reader:
        reader.execute("SELECT count(*) FROM ledger")
        with psycopg.connect(plain, autocommit=True) as detacher:
            detacher.execute("SET statement_timeout = 500")
            part = f"ALTER TABLE ledger DETACH PARTITION ledger_{run.id} CONCURRENTLY"
            with pytest.raises(psycopg.errors.QueryCanceled):
                await asyncio.to_thread(detacher.execute, part.encode())
        await _act(api, other, "report", 0)
        await api.create_run(num_tasks=3, mode="curriculum_only")
    async with operated(database_url, valkey) as sampler:
        await sampler.sweeper.sweep()
    assert rows_of(database_url, run.id) == {}
    assert query(database_url, "SELECT to_regclass(%s)::text", f"ledger_{run.id}") == [(None,)]
    await _act(api, other, "report", 0)
