"""Sweeping by age: what is kept never misses what went (invariants 5, 9 and 10)."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from typer.testing import CliRunner, Result

from etude_proto.v1 import Checkpoint, Retention, Run
from etude_sampler.cli import app
from etude_sampler.embedded import RunningServer
from etude_sampler.errors import IllegalTransition
from etude_sampler.ports.retention import KINDS
from support.archives import digest
from support.sampler_app import Api, parse, problem, query
from support.sweeping import act, age, by_kind, operated
from support.waiting import wait_until
from support.workload import report_of, task


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
            drawn = [await act(api, run, step, version) for run in (swept, plain)]
            assert drawn[0] == drawn[1]
            if step == "mark":
                marks = [await checkpoint(api, run) for run in (swept, plain)]
        if not marks:
            marks = [await checkpoint(api, run) for run in (swept, plain)]
        kept = await digest(database_url, swept.id)
        for run in (swept, plain):
            await act(api, run, "report", version)
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
        drawn = [await act(api, run, "report", 0) for run in (swept, plain)]
        assert drawn[0] == drawn[1]
    assert kept
    assert dropped.get("outcomes") or dropped.get("receipts"), dropped


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
    await act(api, run, "late", 0)
    for version in (1, 2):
        await act(api, run, "report", version)
        await api.announced(run.id, version)
    await act(api, run, "report", 2)

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
    await act(api, run, "report", 0)
    early = await checkpoint(api, run)
    await act(api, run, "report", 0)
    await api.announced(run.id, 1)
    await act(api, run, "report", 1)
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
        await act(valkey_api, run, "report", 0)
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


async def test_the_command_takes_a_name_or_an_id(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    run, other = [
        await valkey_api.create_run(num_tasks=6, mode="curriculum_only", name=name)
        for name in ("swept", "other")
    ]
    for one in (run, other):
        await valkey_api.reported(await valkey_api.lease(one.id, 3))
    age(database_url)
    urls = {"ETUDE_DATABASE_URL": database_url, "ETUDE_REDIS_URL": valkey.url}

    async def gc(name: str) -> Result:
        words = ["gc", "--run", name, "--dry-run", "--json"]
        return await asyncio.to_thread(CliRunner().invoke, app, words, env=urls)

    told = [json.loads((await gc(name)).stdout)["dropped"] for name in ("swept", run.id)]
    for dropped in told:
        assert {one["run_id"] for one in dropped} == {run.id}
        assert "receipts" in {one["kind"] for one in dropped}
    nobody = await gc("nobody")
    assert (nobody.exit_code, nobody.stdout) == (2, "")
    detail = json.loads(nobody.stderr)["detail"]
    assert detail.startswith("no run is called 'nobody'; there are ")
