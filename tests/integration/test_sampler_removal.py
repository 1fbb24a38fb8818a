"""Deleting runs and datasets: gone at once, their rows soon, and nobody else waits."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from redis import Redis

from etude_sampler.embedded import RunningServer
from etude_sampler.ports.retention import Dropped
from support.sampler_app import Api, problem, query
from support.sampler_app_redis import read_hot
from support.sweeping import act, operated
from support.waiting import wait_until


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
    await act(api, run, "report", 0)
    await act(api, other, "report", 0)
    await api.announced(run.id, 1)

    async def drained() -> bool:
        return not read_hot(valkey.url, other.id).logged

    await wait_until(drained, what="the other run's decisions are drained")
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
    await act(api, other, "report", 0)


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
    await act(api, run, "report", 0)
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
        await act(api, other, "report", 0)
        await api.create_run(num_tasks=3, mode="curriculum_only")
    async with operated(database_url, valkey) as sampler:
        await sampler.sweeper.sweep()
    assert rows_of(database_url, run.id) == {}
    assert query(database_url, "SELECT to_regclass(%s)::text", f"ledger_{run.id}") == [(None,)]
    await act(api, other, "report", 0)
