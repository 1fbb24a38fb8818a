"""Back to a step (invariant 9): exactly the old state, and nothing of the discarded future."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from etude_proto.v1 import HistoryPage, Prediction, PredictionsRequest, RestorePage
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_redis import check_laws, read_hot
from support.time_travel import Traveller, last_seq, state_of
from support.waiting import wait_until
from support.workload import cargo, report_of
from support.workload_model import check_run


async def traveller(
    api: Api, database_url: str, *, num_tasks: int = 18, **spec: object
) -> Traveller:
    """A curriculum-only run."""
    run = await api.create_run(num_tasks=num_tasks, mode="curriculum_only", **spec)
    return Traveller(api, run, database_url)


async def predict(one: Traveller, value: float) -> None:
    """A prediction for the first task."""
    task_id = (await one.api.get(f"/v1/runs/{one.run.id}/tasks", limit=1)).json()["items"][0]["id"]
    body = PredictionsRequest(
        predictions=[Prediction(task_id=task_id, value=value)],
        policy_version=len(one.boundaries),
    )
    answer = await one.api.post(f"/v1/runs/{one.run.id}/predictions", body)
    assert answer.status_code == 200


@pytest.mark.parametrize("seed", range(3))
async def test_invariant_9_restore_brings_back_every_bit(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer, seed: int
) -> None:
    """A random history with checkpoints, some in mid-version; then back, and on from there."""
    rng = random.Random(seed)
    one = await traveller(pair[0], database_url, limits={"checkpoint_keep_last": 50})
    kept: dict[str, tuple[dict[str, object], list[int]]] = {}
    for turn in range(16):
        one.api = pair[turn % 2]
        step = rng.choice(["report", "report", "announce", "checkpoint"])
        if step == "report":
            await one.report(rng.randrange(1, 7), skill=rng.random())
            await predict(one, rng.random())
        elif step == "announce":
            await one.announce()
        else:
            taken = await one.checkpoint(label=f"turn {turn}")
            kept[taken.id] = state_of(database_url, one.run.id), list(one.boundaries)
    for chosen in sorted(kept, key=lambda _: rng.random())[:3]:
        state, boundaries = kept[chosen]
        answer = (await one.api.get(f"/v1/runs/{one.run.id}/checkpoints/{chosen}")).json()
        if answer["discarded_at"] is not None:
            continue
        before = read_hot(redis_server.url, one.run.id)
        held = await one.api.lease(one.run.id, 3)
        done = await one.restore(chosen)
        assert state_of(database_url, one.run.id) == state
        one.boundaries = list(boundaries)
        check_run(database_url, redis_server.url, one.run, boundaries=boundaries)
        hot = check_laws(redis_server.url, one.run.id, num_tasks=18)
        assert (hot.epoch > before.epoch, hot.leased()) == (True, {})
        assert done.policy_version == len(boundaries)
        problem(await one.api.report(held), 409, "lease_superseded")
        assert state_of(database_url, one.run.id) == state, "a late report moved something"
        fresh = await pair[1].lease(one.run.id, 18)
        assert len({item.task.id for item in fresh.items}) == 18
        assert min(item.entry for item in fresh.items) >= hot.epoch << 20
        assert fresh.policy_version == len(boundaries)
        await pair[1].reported(fresh, report_of(fresh, skill=0.7))
        await one.announce()
        check_run(database_url, redis_server.url, one.run, boundaries=one.boundaries)
    view = await one.api.view(one.run.id)
    live = sum(arm.num_groups for arm in view.arms)
    assert view.num_groups_applied == live


async def test_the_discarded_future_is_fenced_off(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """Leases, ready groups, training batches and acks of what was discarded count no more."""
    run = await api.create_run(num_tasks=24)
    one = Traveller(api, run, database_url)
    first = await one.fill()
    body = {"fence": first.manifest.lease.fence, "policy_version": 1, "weights_uri": "/w/1"}  # type: ignore[union-attr]
    path = f"/v1/training-batches/{first.manifest.lease.id}/ack"  # type: ignore[union-attr]
    answer = await api.post(path, {**body, "checkpoint": {"label": "one", "pinned": True}}, key="a")
    checkpoint_id = answer.json()["checkpoint_id"]
    state = state_of(database_url, run.id)
    second = await one.fill()
    acked = await api.ack(second, 2, key="second")
    third = await one.fill()
    reported = await api.lease(run.id, 4)
    receipt = await api.report(reported, key="reported")
    ready = await api.lease(run.id, 4)
    await api.report_cargo(ready)
    live = await api.lease(run.id, 4)
    assert live.lease is not None
    done = await one.restore(checkpoint_id)
    assert (done.from_version, done.policy_version, done.weights_uri) == (2, 1, "/w/1")
    assert state_of(database_url, run.id) == state
    again = await api.report(reported, key="reported")
    assert (again.status_code, again.content) == (200, receipt.content), "a receipt is for ever"
    again = await api.ack(second, 2, key="second")
    assert (again.status_code, again.content) == (200, acked.content)
    assert (await api.view(run.id)).policy_version == 1, "a repeated ack announces nothing"
    problem(await api.ack(third, 2), 409, "lease_superseded")
    problem(await api.ack(third, 3), 409, "lease_superseded")
    problem(await api.report(live, report_of(live)), 409, "lease_superseded")
    tokens = cargo(live.lease.fence, live.items[0].task.id)
    problem(await api.report(live, tokens), 409, "lease_superseded")
    late = query(database_url, "SELECT count(*) FROM ledger WHERE verdict = 'late'")
    assert late == [(4,)], "the four tasks of the live lease, once each"
    assert state_of(database_url, run.id) == state
    hot = check_laws(redis_server.url, run.id, num_tasks=24)
    assert (hot.count("n_ready"), hot.count("n_training"), hot.count("version")) == (0, 0, 1)
    assert (await api.train(run.id)).manifest.lease is None
    fresh = await one.fill()
    assert (await api.acked(fresh, 2)).policy_version == 2
    page = parse(await api.get(f"/v1/runs/{run.id}/history"), HistoryPage)
    assert [(p.policy_version, p.weights_uri) for p in page.items] == [
        (1, "/w/1"),
        (2, "file:///weights/v2"),
    ]
    kept = query(database_url, "SELECT version, content->>'weights_uri' FROM discarded_versions")
    assert kept == [(2, "file:///weights/v2")], "what was discarded is kept apart"


async def test_a_restore_is_done_once(api: Api, database_url: str) -> None:
    one = await traveller(api, database_url)
    await one.report()
    taken = await one.checkpoint()
    await one.report()
    path = f"/v1/runs/{one.run.id}/restore"
    body = {"checkpoint_id": taken.id}
    first = await api.post(path, body, key="back")
    await one.report()
    state = state_of(database_url, one.run.id)
    again = await api.post(path, body, key="back")
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
    # The replica died before it stored the answer: only the restore itself is remembered.
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        connection.execute("DELETE FROM idempotency")
    third = await api.post(path, body, key="back")
    assert third.content == first.content
    assert state_of(database_url, one.run.id) == state, "new work was not discarded"
    page = parse(await api.get(f"/v1/runs/{one.run.id}/restores"), RestorePage)
    assert [(r.id, r.num_groups_discarded) for r in page.items] == [(first.json()["id"], 5)]


async def test_what_cannot_be_restored_changes_nothing(api: Api, database_url: str) -> None:
    one, other = await traveller(api, database_url), await traveller(api, database_url)
    early = await one.checkpoint()
    await one.report()
    late, foreign = await one.checkpoint(), await other.checkpoint()
    await one.restore(early.id)
    state, run = state_of(database_url, one.run.id), await api.get(f"/v1/runs/{one.run.id}")
    path = f"/v1/runs/{one.run.id}/restore"
    found = problem(await api.post(path, {"checkpoint_id": late.id}), 409, "illegal_transition")
    assert "can be forked" in found.detail
    for missing in (foreign.id, "ckpt_none"):
        answer = await api.post(path, {"checkpoint_id": missing})
        problem(answer, 404, "checkpoint_not_found")
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        connection.execute("UPDATE checkpoints SET data = 'spoiled' WHERE id = %s", (early.id,))
    found = problem(await api.post(path, {"checkpoint_id": early.id}), 409, "illegal_transition")
    assert "damaged" in found.detail
    assert state_of(database_url, one.run.id) == state
    assert (await api.get(f"/v1/runs/{one.run.id}")).json() == run.json()
    problem(
        await api.post("/v1/runs/run_none/restore", {"checkpoint_id": late.id}),
        404,
        "run_not_found",
    )


async def test_reports_and_restores_at_once_leave_one_or_the_other(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    """Reports race with restores: each counts wholly before, or not at all."""
    one = await traveller(pair[0], database_url, num_tasks=40, limits={"cap_groups": 64})
    await one.report(10)
    taken = await one.checkpoint(pinned=True)
    state = state_of(database_url, one.run.id)
    for _ in range(3):
        batches = [await pair[n % 2].lease(one.run.id, 4) for n in range(6)]
        answers = await asyncio.gather(
            *(pair[n % 2].report(batch) for n, batch in enumerate(batches)),
            one.api.post(f"/v1/runs/{one.run.id}/restore", {"checkpoint_id": taken.id}),
        )
        assert answers[-1].status_code == 200
        assert {a.status_code for a in answers[:-1]} <= {200, 409, 503}
        assert state_of(database_url, one.run.id) == state
        check_run(database_url, redis_server.url, one.run)
        check_laws(redis_server.url, one.run.id, num_tasks=40)


async def test_a_replica_that_dies_between_postgresql_and_redis_leaves_the_new_state(
    database_url: str, redis_server: RunningServer
) -> None:
    """The guard of another replica loads what the dead one had only stored."""
    async with sampler_app(database_url, redis_server.url) as api:
        one = await traveller(api, database_url)
        await one.report()
        taken = await one.checkpoint()
        state = state_of(database_url, one.run.id)
        await one.report()
        await one.announce()
        held = await api.lease(one.run.id, 2)
        sampler = api.http._transport.app.state.sampler  # type: ignore[attr-defined]
        await sampler.travel._checkpoints.restore(one.run.id, taken.id, restore_id="rst_dead")
    del one.boundaries[taken.policy_version :]
    async with sampler_app(database_url, redis_server.url) as other:

        async def served() -> bool:
            answer = await other.try_lease(one.run.id, 1)
            if answer.status_code == 503:
                return False
            return bool(answer.json()["lease"]["fence"] >> 36 > one.run.epoch)

        await wait_until(served, what="the other replica has loaded the restored run")
        assert state_of(database_url, one.run.id) == state
        check_run(database_url, redis_server.url, one.run, boundaries=one.boundaries)
        problem(await other.report(held), 409, "lease_superseded")
        assert last_seq(database_url, one.run.id) > taken.apply_seq
