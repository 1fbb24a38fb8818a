"""Rollouts per task over HTTP: allotted once per lease, kept, judged by, replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from redis import Redis

from etude_proto.v1 import (
    GateVerdict,
    PromptBatch,
    Report,
    Run,
    Screen,
    Verdict,
)
from etude_sampler.embedded import RunningServer
from support.replaying import change, replayed
from support.sampler_app import Api, parse, problem, query
from support.time_travel import Traveller
from support.workload import cargo, group, rolled_out, task

GROUP_SIZE = 6
RIGHT, MIXED = (1.0,) * 4, (1.0, 0.0, 1.0, 1.0)


async def create(api: Api, preset: str, *, num_tasks: int = 12, **spec: object) -> Run:
    """A run whose curriculum has a budget."""
    return await api.create_run(
        num_tasks=num_tasks,
        group_size=GROUP_SIZE,
        curriculum={"preset": preset},
        **{"mode": "curriculum_only", **spec},
    )


def rolls(batch: PromptBatch) -> Mapping[str, int]:
    """Rollouts of each task."""
    return {item.task.id: item.num_rollouts for item in batch.items}


def spent(batch: PromptBatch) -> Report:
    """As many outcomes as were asked for; the higher its ordinal, the easier a task is."""
    assert batch.lease is not None
    groups = [
        group(
            item.task.id,
            rolled_out(
                item.task.id,
                item.task.subtasks,
                version=batch.policy_version,
                group_size=item.num_rollouts,
                skill=item.task.ordinal / 9,
            ),
        )
        for item in batch.items
    ]
    return Report(fence=batch.lease.fence, groups=groups)


@pytest.mark.parametrize("preset", ["cures", "knapsack"])
async def test_a_batchs_rollouts_sum_to_tasks_times_group_size(
    api: Api, database_url: str, redis_server: RunningServer, preset: str
) -> None:
    run = await create(api, preset)
    assert run.resolved.budget is not None
    assert run.resolved.budget.name == preset
    seen: list[set[int]] = []
    for version in range(1, 7):
        batch = await api.lease(run.id, 6)
        assert sum(rolls(batch).values()) == 6 * GROUP_SIZE
        assert min(rolls(batch).values()) >= 2
        assert all(item.screen is None and item.train for item in batch.items)
        seen.append(set(rolls(batch).values()))
        receipt = await api.reported(batch, spent(batch))
        assert {one.attempts[0].verdict for one in receipt.groups} == {Verdict.APPLIED}
        await api.announced(run.id, version)
    assert seen[0] == {GROUP_SIZE}, "of unseen tasks nothing is known"
    assert len(set.union(*seen)) > 3, "what is known then divides the rollouts"
    why = (await api.task(run.id, next(iter(rolls(batch))))).budget
    assert why is not None
    assert why.startswith("in proportion" if preset == "cures" else ("p 0.", "all of", "0 of"))
    report = await replayed(database_url, run.id, redis_url=redis_server.url)
    assert (report.verdict, report.differences, report.gaps) == ("same", [], [])
    counted = "SELECT count(*)::int FROM decisions WHERE run_id = %s AND kind = 'budget'"
    assert query(database_url, counted, run.id) == [(6,)]


async def practised(api: Api, run: Run, *, num_batches: int = 4) -> None:
    """Make tasks differ in what is known of them."""
    for _ in range(num_batches):
        batch = await api.lease(run.id, 12)
        await api.reported(batch, spent(batch))


async def test_a_repeated_call_gets_the_same_rollouts_whatever_was_reported(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    run = await create(api, "knapsack")
    await practised(api, run)
    first = await api.try_lease(run.id, 8, key="again")
    assert (await api.try_lease(run.id, 8, key="again")).content == first.content
    batch = parse(first, PromptBatch)
    part = batch.model_copy(update={"items": batch.items[:5]})
    await api.reported(part, spent(part))
    rest = await api.lease(run.id, 8, key="again")
    want = {item.task.id: item.num_rollouts for item in batch.items[5:]}
    assert rolls(rest) == want
    await api.reported(rest, spent(rest))
    report = await replayed(database_url, run.id, redis_url=redis_server.url)
    assert (report.verdict, report.differences) == ("same", [])


async def test_whoever_decides_decides_the_same(
    pair: tuple[Api, Api], redis_server: RunningServer
) -> None:
    """Two replicas answer one call at once; and one takes over from another that died in it."""
    run = await create(pair[0], "cures")
    await practised(pair[0], run)
    both = await asyncio.gather(*(api.try_lease(run.id, 9, key="one") for api in pair))
    batches = [parse(answer, PromptBatch) for answer in both]
    assert rolls(batches[0]) == rolls(batches[1])
    assert len(set(rolls(batches[0]).values())) > 2
    lease = batches[0].lease
    assert lease is not None
    with Redis.from_url(redis_server.url) as redis:
        assert redis.hdel(f"etude:{{{run.id}}}:lease:{lease.id}", "allot") == 1
    after = await pair[1].lease(run.id, 9, key="one")
    assert rolls(after) == rolls(batches[0])


async def test_rollouts_follow_the_statistics_that_a_rebuild_loads(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """The note of the last rewards is stored with the task, and comes back with it."""
    api = valkey_api
    run = await create(api, "knapsack")
    await practised(api, run)
    before = await api.lease(run.id, 12)
    assert before.lease is not None
    assert len(set(rolls(before).values())) > 3
    await api.post(f"/v1/leases/{before.lease.id}/release", {"fence": before.lease.fence})
    assert (await api.post(f"/v1/runs/{run.id}/rebuild")).status_code == 200
    after = await api.lease(run.id, 12)
    assert rolls(after) == rolls(before)
    await api.reported(after, spent(after))
    report = await replayed(database_url, run.id, redis_url=valkey.url)
    assert (report.verdict, report.differences) == ("same", [])
    assert [epoch.num_draws for epoch in report.epochs] == [5, 1]


async def all_rolls(api: Api, run: Run) -> Mapping[str, int]:
    """Rollouts of all tasks, given back at once."""
    batch = await api.lease(run.id, 12)
    assert batch.lease is not None
    await api.post(f"/v1/leases/{batch.lease.id}/release", {"fence": batch.lease.fence})
    return rolls(batch)


async def test_rollouts_go_back_to_a_checkpoint_and_into_its_forks(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    api = valkey_api
    run = await create(api, "knapsack")
    one = Traveller(api, run, database_url)
    await practised(api, run, num_batches=3)
    taken = await one.checkpoint(pinned=True)
    before = await all_rolls(api, run)
    await practised(api, run, num_batches=3)
    assert await all_rolls(api, run) != before
    fork = await one.fork("fork", checkpoint_id=taken.id)
    await one.restore(taken.id)
    for again in (run, fork):
        assert await all_rolls(api, again) == before
        report = await replayed(database_url, again.id, redis_url=valkey.url)
        assert (report.verdict, report.differences) == ("same", [])


async def test_a_changed_allotment_is_named(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    run = await create(valkey_api, "cures")
    await practised(valkey_api, run)
    assert (await replayed(database_url, run.id, redis_url=valkey.url)).verdict == "same"
    found = "SELECT number, tasks FROM decisions WHERE kind = 'budget' ORDER BY 1 LIMIT 1 OFFSET 2"
    ((number, words),) = query(database_url, found)
    for at, what in ((1, "rollouts of task 0: the log has"), (0, "rollouts of 12 tasks")):
        new = str(words).split()
        new[at] = str(int(new[at]) + 1 - 2 * (at == 0))
        sql = "UPDATE decisions SET tasks = %s WHERE number = %s"
        change(database_url, sql, " ".join(new), number)
        report = await replayed(database_url, run.id)
        assert [(d.number, d.kind) for d in report.differences] == [(number, "budget")]
        assert report.differences[0].what.startswith(what)


async def test_two_phases_are_asked_for_and_judged(valkey_api: Api) -> None:
    """Stopped groups count and are not trained on, with tokens or without."""
    api = valkey_api
    run = await create(api, "speed", mode="training")
    batch = await api.lease(run.id, 4)
    assert [(item.num_rollouts, item.screen) for item in batch.items] == [
        (24, Screen(num_rollouts=4))
    ] * 4
    assert batch.lease is not None
    fence = batch.lease.fence
    ids = [item.task.id for item in batch.items]
    bodies = [
        cargo(fence, ids[0], RIGHT),
        cargo(fence, ids[1], MIXED * 6),
        cargo(fence, ids[2], RIGHT * 6),
    ]
    gates = [(await api.reported(batch, body)).groups[0].gate for body in bodies]
    assert gates == [GateVerdict.SCREENED, GateVerdict.ADMITTED, GateVerdict.ZERO_VARIANCE]
    stopped = Report(
        fence=fence,
        groups=[group(ids[3], rolled_out(ids[3], ("format",), version=0, skill=0.0))],
    )
    receipt = await api.reported(batch, stopped)
    assert receipt.groups[0].gate is GateVerdict.SCREENED
    assert receipt.groups[0].attempts[0].verdict is Verdict.APPLIED
    counts = await api.counts(run.id)
    assert (counts.num_ready_groups, counts.num_leased) == (1, 0)
    assert counts.cargo_bytes == len(bodies[1])
    known = (await api.task(run.id, ids[3])).statistics[0]
    assert (known.num_groups, known.num_successes, known.num_failures) == (1, 0, 4)


async def test_mixed_screening_that_went_no_further_is_not_trained_on(valkey_api: Api) -> None:
    """A worker that stops after the first phase, whatever it showed, spends no more."""
    api = valkey_api
    run = await create(api, "speed", mode="training")
    batch = await api.lease(run.id, 1)
    assert batch.lease is not None
    receipt = await api.reported(batch, cargo(batch.lease.fence, batch.items[0].task.id, MIXED))
    assert receipt.groups[0].gate is GateVerdict.SCREENED


async def test_a_budget_without_room_is_refused_at_creation_and_later(valkey_api: Api) -> None:
    api = valkey_api
    dataset = await api.create_dataset("few", tasks=[task(number) for number in range(4)])
    spec = {"name": "test", "dataset_id": dataset, "group_size": 8}
    roomy = {"training_batch_groups": 4, "max_group_bytes": 1 << 20}
    for curriculum, limits, pointer in (
        ({"preset": "speed"}, {"max_group_rollouts": 20}, "/limits/max_group_rollouts"),
        ({"preset": "speed"}, {"max_group_bytes": 1 << 16}, "/limits/max_group_bytes"),
        (
            {"budget": {"name": "cures", "knobs": {"high": 7}}},
            {},
            "/curriculum/budget/knobs/high",
        ),
        ({"budget": {"name": "magic"}}, {}, "/curriculum/budget/name"),
    ):
        body = {**spec, "curriculum": curriculum, "limits": {**roomy, **limits}}
        refused = problem(await api.post("/v1/runs", body), 422, "payload_invalid")
        assert [item.pointer for item in refused.errors] == [pointer]
    body = {**spec, "curriculum": {"preset": "speed"}, "limits": roomy}
    run = parse(await api.post("/v1/runs", body), Run, 201)
    lower = {"limits": {**roomy, "max_group_rollouts": 8}}
    answer = await api.post(
        f"/v1/runs/{run.id}", lower, method="PATCH", headers={"If-Match": f'"{run.revision}"'}
    )
    problem(answer, 422, "payload_invalid")
    assert (await api.lease(run.id, 1)).items[0].num_rollouts == 24


async def test_without_a_budget_nothing_is_decided_or_logged(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    run = await create(valkey_api, "uniform")
    assert run.resolved.budget is None
    batch = await valkey_api.lease(run.id, 3)
    assert set(rolls(batch).values()) == {GROUP_SIZE}
    assert (await valkey_api.task(run.id, batch.items[0].task.id)).budget is None
    raw = await valkey_api.try_lease(run.id, 1)
    assert '"screen"' not in raw.text
    assert '"train":' not in raw.text
    with Redis.from_url(valkey.url) as redis:
        kinds = {entry[1][b"kind"] for entry in redis.xrange(f"etude:{{{run.id}}}:log")}
    counted = "SELECT count(*)::int FROM decisions WHERE run_id = %s AND kind = 'budget'"
    assert b"budget" not in kinds
    assert query(database_url, counted, run.id) == [(0,)]
