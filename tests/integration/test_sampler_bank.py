"""The replay bank of VCRL through HTTP: filled by acks, emptied where the gate drops groups.

Trajectories outlive their ack; statistics count a group once, whatever is replayed; what is lost,
full or killed makes the bank smaller and nothing else.
"""

from __future__ import annotations

import random
from pathlib import Path

from redis import Redis

from etude_client.call import TrainingFrame
from etude_proto.v1 import Run, TaskView
from etude_sampler.curriculum.banking import BankRule
from etude_sampler.embedded import RunningServer
from support.archives import read, written
from support.bank_twin import TwinBank
from support.replaying import replayed
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws
from support.servers import Servers
from support.time_travel import Traveller
from support.workload import cargo
from support.workload_model import check_run
from support.workload_races import races_on

FLAT = (1.0, 1.0, 1.0, 1.0)
ONE_OF_FOUR = (1.0, 0.0, 0.0, 0.0)
"""x = 3 / 4; a group with two of four right has x = 1."""


def _vcrl(**knobs: object) -> dict[str, object]:
    return {"preset": "vcrl", "gate": {"name": "vcrl", "knobs": {"kappa": 0.5, **knobs}}}


async def _started(api: Api, **more: object) -> tuple[Run, TrainingFrame]:
    """A run with two groups trained on, of x = 1 and x = .75, both in its bank."""
    limits = {"training_batch_groups": 2, "max_staleness": 4, "training_lease_ttl_s": 60.0}
    run = await api.create_run(curriculum=_vcrl(**more), num_tasks=24, limits=limits)
    batch = await api.lease(run.id, 2)
    first, second = (batch.model_copy(update={"items": [item]}) for item in batch.items)
    await api.report_cargo(first)
    await api.report_cargo(second, values=ONE_OF_FOUR)
    frame = await api.train(run.id)
    assert [(ref.value, ref.num_replays) for ref in frame.manifest.groups] == [(1.0, 0), (0.75, 0)]
    await api.acked(frame, 1)
    return run, frame


async def _drop(api: Api, run: Run, num: int) -> None:
    """Report groups that teach nothing."""
    receipts = await api.report_cargo(await api.lease(run.id, num), values=FLAT)
    assert {receipt.groups[0].gate for receipt in receipts} == {"zero_variance"}


async def test_slots_that_the_gate_left_empty_are_filled(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """The same bytes, twice at most, each time with a line of its own, never in statistics."""
    run, first = await _started(api)
    sizes = [len(body) for body in first.bodies]
    bank = (await api.view(run.id)).bank
    assert bank is not None
    assert (bank.num_groups, bank.max_groups, bank.num_replayed) == (2, 256, 0)
    assert (await api.counts(run.id)).cargo_bytes == sum(sizes), "counted like other cargo"
    waiting = (await api.train(run.id)).manifest
    assert waiting.lease is None, "an empty slot is not enough: a group must have been dropped"
    await _drop(api, run, 1)
    await api.report_cargo(await api.lease(run.id, 1))
    second = await api.train(run.id)
    assert [ref.num_replays for ref in second.manifest.groups] == [0, 1]
    assert second.bodies[1] == first.bodies[0], "the greatest priority: x = 1"
    check_laws(redis_server.url, run.id, num_tasks=24)
    await api.acked(second, 2)
    await _drop(api, run, 2)
    third = await api.train(run.id)
    assert sorted(ref.num_replays for ref in third.manifest.groups) == [1, 2]
    assert third.manifest.degraded is False
    await api.acked(third, 3)
    lines = "SELECT ordinal, number, policy_version, min_version, outcomes FROM ledger WHERE {} "
    replays = query(database_url, lines.format("verdict = 'replayed'") + "ORDER BY apply_seq")
    assert [line[1:4] for line in replays] == [(1, 1, 0), (1, 2, 1), (2, 2, 0)]
    origin = query(database_url, "SELECT apply_seq FROM ledger ORDER BY apply_seq LIMIT 1")[0][0]
    assert replays[0][4] == {"replay_of": origin}
    view = await api.view(run.id)
    assert view.num_groups_applied == 6, "two, then one dropped and one kept, then two dropped"
    assert view.bank is not None
    assert (view.bank.num_groups, view.bank.num_replayed) == (2, 3), "the third had its two"
    history = (await api.get(f"/v1/runs/{run.id}/history")).json()["items"]
    assert [point["num_groups_replayed"] for point in history] == [0, 1, 2]
    task = first.manifest.groups[0].task_id
    shown = parse(await api.get(f"/v1/runs/{run.id}/tasks/{task}"), TaskView)
    verdicts = [entry.verdict for entry in shown.recent]
    assert verdicts.count("replayed") == 2
    assert verdicts.count("applied") == shown.statistics[0].num_groups
    check_laws(redis_server.url, run.id, num_tasks=24)
    ends = query(database_url, _FOLDED)
    boundaries = [int(str(row[0])) for row in ends]
    check_run(database_url, redis_server.url, run, boundaries=boundaries)
    assert (await replayed(database_url, run.id, redis_url=redis_server.url)).verdict == "same"


_FOLDED = """
WITH ends AS (
    SELECT sum((summary->>'num_groups')::int) OVER (ORDER BY version) AS num FROM policy_versions
), applied AS (
    SELECT apply_seq, row_number() OVER (ORDER BY apply_seq) AS num FROM ledger
    WHERE verdict = 'applied'
)
SELECT apply_seq FROM ends JOIN applied USING (num) ORDER BY apply_seq
"""
"""The last number of each version's groups."""


async def test_a_bank_that_is_lost_is_a_smaller_bank(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    api = valkey_api
    run, _ = await _started(api)
    await _drop(api, run, 1)
    lent = await api.train(run.id, num_groups=1)
    assert lent.manifest.groups[0].num_replays == 1
    before = query(database_url, "SELECT * FROM task_statistics ORDER BY ordinal")
    with Redis.from_url(valkey.url) as redis:
        redis.flushall()
    await api.loaded(run.id)
    problem(await api.ack(lent, 2), 409, "lease_superseded")
    bank = (await api.view(run.id)).bank
    assert bank is not None
    assert (bank.num_groups, bank.num_replayed) == (0, 0)
    assert query(database_url, "SELECT * FROM task_statistics ORDER BY ordinal") == before
    await _drop(api, run, 2)
    assert (await api.train(run.id)).manifest.lease is None, "it waits for groups, as without one"
    await api.report_cargo(await api.lease(run.id, 2))
    await api.acked(await api.train(run.id), 2)
    bank = (await api.view(run.id)).bank
    assert bank is not None
    assert bank.num_groups == 2, "and fills again"
    check_laws(valkey.url, run.id, num_tasks=24)


async def test_back_at_a_step_only_its_replays_are_told(
    valkey_api: Api,
    database_url: str,
    valkey: RunningServer,
    servers: Servers,
    tmp_path: Path,
) -> None:
    """Restored, forked, exported and imported: lines of replays go the way of all lines."""
    api = valkey_api
    run, _ = await _started(api)
    traveller, marks = Traveller(api, run, database_url), []
    for version in (2, 3):
        await _drop(api, run, 1)
        frame = await api.train(run.id, num_groups=1)
        assert frame.manifest.groups[0].num_replays == version - 1
        await api.acked(frame, version)
        marks.append((await traveller.checkpoint()).id)

    async def told(who: Api, run_id: str) -> tuple[int, int]:
        await who.loaded(run_id)
        bank = (await who.view(run_id)).bank
        assert bank is not None
        return bank.num_groups, bank.num_replayed

    assert await told(api, run.id) == (1, 2)
    await traveller.restore(marks[0])
    assert await told(api, run.id) == (0, 1)
    forked = await traveller.fork("forked", checkpoint_id=marks[0])
    assert await told(api, forked.id) == (0, 0)
    assert (await replayed(database_url, run.id, redis_url=valkey.url)).verdict == "same"
    await written(database_url, run.id, tmp_path / "run.tar", redis_url=valkey.url)
    with servers.database() as other:
        again = await read(other, valkey, tmp_path / "run.tar", name="copy")
        async with sampler_app(other, valkey.url) as there:
            assert await told(there, again.run_id) == (0, 1)


async def test_a_batch_from_the_bank_that_comes_back(
    valkey_api: Api, valkey: RunningServer
) -> None:
    """Given back, it was not trained on; the bound on staleness holds for banked groups too."""
    api = valkey_api
    run, first = await _started(api)
    await _drop(api, run, 2)
    lent = await api.train(run.id)
    assert [ref.num_replays for ref in lent.manifest.groups] == [1, 1]
    assert [ref.value for ref in lent.manifest.groups] == [1.0, 0.75]
    assert lent.manifest.lease is not None
    path = f"/v1/training-batches/{lent.manifest.lease.id}/release"
    assert (await api.post(path, {"fence": lent.manifest.lease.fence})).status_code == 200
    for version in range(2, 5):
        await api.report_cargo(await api.lease(run.id, 2))
        await api.acked(await api.train(run.id), version)
    await _drop(api, run, 2)
    again = await api.train(run.id)
    assert {ref.num_replays for ref in again.manifest.groups} == {1}
    oldest = {ref.lease_id for ref in first.manifest.groups}
    assert not {ref.lease_id for ref in again.manifest.groups} & oldest, "of equals the newest"
    await api.acked(again, 5)
    with Redis.from_url(valkey.url) as redis:
        banked = redis.zrange(f"etude:{{{run.id}}}:bank", 0, -1)
    assert banked
    assert not {name.decode().rpartition(":")[0] for name in banked} & oldest, "five versions old"
    check_laws(valkey.url, run.id, num_tasks=24)


async def test_the_bank_gives_way_to_new_trajectories(
    api: Api, redis_server: RunningServer
) -> None:
    """Within the byte budget, and within what a full server has left."""
    limits = {"training_batch_groups": 1, "max_group_bytes": 1 << 15, "cargo_bytes": 1 << 16}
    run = await api.create_run(curriculum=_vcrl(), limits=limits | {"cap_groups": 5})
    for version in (1, 2):
        batch = await api.lease(run.id, 1)
        assert batch.lease is not None
        task = batch.items[0].task.id
        body = cargo(batch.lease.fence, task, num_tokens=450, version=version - 1)
        await api.reported(batch, body)
        await api.acked(await api.train(run.id), version)
    bank = (await api.view(run.id)).bank
    assert bank is not None
    assert bank.num_groups == 2
    batch = await api.lease(run.id, 1)
    assert batch.lease is not None
    body = cargo(batch.lease.fence, batch.items[0].task.id, num_tokens=450, version=2)
    assert (await api.reported(batch, body)).groups[0].gate == "admitted"
    view = await api.view(run.id)
    assert view.bank is not None
    assert (view.bank.num_groups, view.counts.num_ready_groups, view.counts.num_evicted) == (
        1,
        1,
        0,
    )
    check_laws(redis_server.url, run.id, num_tasks=12)
    with Redis.from_url(redis_server.url) as redis:
        limit = int(redis.config_get("maxmemory")["maxmemory"])
        redis.config_set("maxmemory", 1)
        try:
            problem(await api.try_lease(run.id, 1), 503, "redis_full")
        finally:
            redis.config_set("maxmemory", limit)
    view = await api.view(run.id)
    assert view.bank is not None
    assert (view.bank.num_groups, view.counts.num_ready_groups) == (0, 1)
    check_laws(redis_server.url, run.id, num_tasks=12)


async def test_runs_without_trajectories_are_told_that_nothing_is_replayed(
    valkey_api: Api,
) -> None:
    api = valkey_api
    plain = await api.create_run(curriculum={"preset": "vcrl"}, mode="curriculum_only")
    assert plain.resolved.gate.knobs["bank_groups"] == 0
    assert (await api.view(plain.id)).bank is None
    body = {"name": "x", "dataset_id": plain.dataset_id, "mode": "curriculum_only"}
    refused = await api.post("/v1/runs", {**body, "curriculum": _vcrl(bank_groups=8)})
    found = problem(refused, 422, "payload_invalid")
    assert [item.pointer for item in found.errors] == ["/curriculum/gate/knobs/bank_groups"]
    fresh = {**body, "mode": "training", "limits": {"max_staleness": 0}}
    refused = await api.post("/v1/runs", {**fresh, "curriculum": {"preset": "vcrl"}})
    found = problem(refused, 422, "payload_invalid")
    assert [item.pointer for item in found.errors] == ["/limits/max_staleness"]


async def test_the_scripts_do_what_the_pure_bank_does(redis_server: RunningServer) -> None:
    async with races_on(redis_server.url) as races:
        with Redis.from_url(redis_server.url) as redis:
            for seed in range(2):
                rule = BankRule(num_groups=3, momentum=0.9, max_replays=2)
                twin = TwinBank(races, redis, rule, max_staleness=3)
                await twin.open()
                rng = random.Random(seed)
                for _ in range(150):
                    await twin.step(rng)
                assert twin.num_replayed > 2, seed
