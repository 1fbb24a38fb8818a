"""Pooled batches over HTTP: the best of more leased tasks, one choice whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest
from redis import Redis

from etude_proto.v1 import Arm, DegradedReason, DrawPage, PromptBatch, Run
from etude_sampler.embedded import RunningServer
from support.replaying import change, replayed
from support.sampler_app import Api, parse, problem, query, sampler_app
from support.sampler_app_proxy import Loss, digest, redis_proxy
from support.sampler_app_redis import check_laws, read_hot
from support.time_travel import Traveller
from support.waiting import wait_until
from support.workload import report_of, task

NUM = 40
KEY = "the-key-of-the-call"


async def _run(api: Api, pool: str, **spec: object) -> Run:
    """A run whose tasks came with pass rates from 0 to 1; a quarter of its slots is the control."""
    if "dataset_id" not in spec:
        tasks = [
            task(number).model_copy(update={"metadata": {"pass_rate": number / (NUM - 1)}})
            for number in range(NUM)
        ]
        spec["dataset_id"] = await api.create_dataset("graded", tasks=tasks)
    spec.setdefault("curriculum", {"preset": pool, "control_share": 0.25})
    return await api.create_run(num_tasks=0, mode="curriculum_only", **spec)


async def _predict(api: Api, run: Run, batch: PromptBatch, value: float, *, version: int) -> None:
    """Post the same prediction for all tasks of a batch."""
    told = [{"task_id": item.task.id, "value": value} for item in batch.items]
    body = {"predictions": told, "policy_version": version}
    response = await api.post(f"/v1/runs/{run.id}/predictions", body)
    assert response.status_code == 200, response.text


async def _played(
    apis: tuple[Api, ...], run: Run, *, redis_url: str, turns: int
) -> list[PromptBatch]:
    """Batches of six, reported at once; every other one makes a version."""
    batches: list[PromptBatch] = []
    for turn in range(turns):
        api = apis[turn % len(apis)]
        batch = await api.lease(run.id, 6)
        hot = check_laws(redis_url, run.id, num_tasks=NUM)
        assert (hot.count("n_leased"), hot.count("n_extra")) == (6, 0)
        for item in batch.items:
            assert item.slot_probability == pytest.approx(1 / NUM), "that of the draw"
            assert item.lane == ("uniform" if item.arm is Arm.CONTROL else "pool")
        batches.append(batch)
        await _predict(api, run, batch, 0.1 * (turn % 10), version=turn // 2)
        await api.reported(batch, report_of(batch, skill=0.5))
        if turn % 2:
            await api.announced(run.id, (turn + 1) // 2)
    return batches


async def _same(database_url: str, run: Run, *, redis_url: str, num_choices: int) -> None:
    """Replay chooses everything again the same."""
    report = await replayed(database_url, run.id, redis_url=redis_url)
    assert (report.differences, report.gaps) == ([], [])
    assert (report.ledger.first_fault, report.verdict) == (None, "same")
    counted = "SELECT count(*)::int FROM decisions WHERE run_id = %s AND kind = 'choose'"
    assert query(database_url, counted, run.id) == [(num_choices,)]


async def test_a_pooled_run_is_played_and_replayed(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    """Batches are full, nothing leaks, both arms are there, two replicas choose alike."""
    run = await _run(pair[0], "mopps")
    assert run.resolved.pool is not None
    batches = await _played(pair, run, redis_url=redis_server.url, turns=6)
    arms = [item.arm for batch in batches for item in batch.items]
    assert 6 <= arms.count(Arm.CONTROL) <= 12, "one or two of six each time"
    await _same(database_url, run, redis_url=redis_server.url, num_choices=6)
    page = parse(await pair[0].get(f"/v1/runs/{run.id}/draws"), DrawPage)
    assert [one.num_candidates for one in page.items] == [NUM] * 6, "16 candidates a slot, or all"
    drawn = [{task.ordinal: task.lane for task in one.tasks} for one in page.items]
    assert drawn == [{i.task.ordinal: i.lane for i in batch.items} for batch in batches]
    view = await pair[1].view(run.id)
    assert [lane.share for lane in view.lanes][:2] == [1.0, 0.0]
    seen = "SELECT DISTINCT lane FROM ledger WHERE run_id = %s ORDER BY 1"
    assert query(database_url, seen, run.id) == [(0,), (len(view.lanes),)]


@pytest.mark.parametrize("pool", ["plr", "pcl", "adarft"])
async def test_every_pool_is_replayed(
    valkey_api: Api, database_url: str, valkey: RunningServer, pool: str
) -> None:
    """Predictions change between the choices; what was read then is in the log."""
    run = await _run(valkey_api, pool)
    batches = await _played((valkey_api,), run, redis_url=valkey.url, turns=4)
    await _same(database_url, run, redis_url=valkey.url, num_choices=4)
    seen = await valkey_api.task(run.id, batches[-1].items[0].task.id)
    assert seen.pool is not None
    assert seen.pool.startswith({"plr": "signal", "pcl": "V 0.3", "adarft": "difficulty"}[pool])


async def test_pcl_keeps_what_is_predicted_at_one_half(valkey_api: Api) -> None:
    api = valkey_api
    run = await _run(api, "pcl", curriculum={"preset": "pcl", "control_share": 0.01})
    everyone = await api.lease(run.id, NUM)
    await _predict(api, run, everyone, 0.95, version=0)
    half = everyone.model_copy(update={"items": everyone.items[::8]})
    await _predict(api, run, half, 0.55, version=0)
    assert everyone.lease is not None
    await api.post(f"/v1/leases/{everyone.lease.id}/release", {"fence": everyone.lease.fence})
    batch = await api.lease(run.id, 10)
    assert {item.task.id for item in half.items} <= {item.task.id for item in batch.items}
    kept = [item for item in batch.items if item.arm is Arm.CURRICULUM]
    assert len(kept) >= 9, "a hundredth is the control arm"


async def test_the_cap_counts_what_is_kept(valkey_api: Api, valkey: RunningServer) -> None:
    """Candidates do not fill the queue, and a full queue shortens a batch, again and again."""
    limits = {"cap_groups": 8}
    run = await _run(valkey_api, "mopps", limits=limits)
    first = await valkey_api.lease(run.id, 6)
    assert len(first.items) == 6
    answers = [await valkey_api.try_lease(run.id, 6, key=KEY) for _ in range(2)]
    batch = parse(answers[0], PromptBatch)
    assert len(batch.items) == 2
    assert batch.degraded_reason is DegradedReason.QUEUE_FULL
    assert answers[0].content == answers[1].content
    full = parse(await valkey_api.try_lease(run.id, 1), PromptBatch)
    assert full.degraded_reason is DegradedReason.QUEUE_FULL
    check_laws(valkey.url, run.id, num_tasks=NUM)


@pytest.mark.parametrize(
    ("step", "what"), [("draw", "reply"), ("choose", "request"), ("choose", "reply")]
)
async def test_a_retry_gets_the_same_batch_whatever_was_lost(
    database_url: str, valkey: RunningServer, short_folder: Path, step: str, what: Loss
) -> None:
    """Byte for byte, from any replica; the choice is made once."""
    async with (
        redis_proxy(valkey, short_folder) as (proxy, frail_url),
        sampler_app(database_url, frail_url) as frail,
        sampler_app(database_url, valkey.url) as sound,
    ):
        run = await _run(sound, "mopps")
        proxy.lose(digest(step), what)
        problem(await frail.try_lease(run.id, 6, key=KEY), 503, "dependency_unavailable")
        assert proxy.struck.is_set()
        hot = check_laws(valkey.url, run.id, num_tasks=NUM)
        assert hot.count("n_leased") == (6 if (step, what) == ("choose", "reply") else NUM)
        answers = [await api.try_lease(run.id, 6, key=KEY) for api in (sound, frail, sound)]
        assert len(parse(answers[0], PromptBatch).items) == 6
        assert {one.content for one in answers} == {answers[0].content}
        problem(await sound.try_lease(run.id, 5, key=KEY), 422, "idempotency_key_reused")
        hot = check_laws(valkey.url, run.id, num_tasks=NUM)
        assert (hot.count("n_leased"), hot.count("n_extra")) == (6, 0)
        await sound.reported(parse(answers[2], PromptBatch))
        await _same(database_url, run, redis_url=valkey.url, num_choices=1)


async def test_two_calls_under_one_key_make_one_choice(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    run = await _run(pair[0], "plr")
    calls = [pair[i % 2].try_lease(run.id, 5, key=KEY) for i in range(6)]
    answers = await asyncio.gather(*calls)
    assert {one.content for one in answers} == {answers[0].content}
    assert len(parse(answers[0], PromptBatch).items) == 5
    check_laws(redis_server.url, run.id, num_tasks=NUM)
    await _same(database_url, run, redis_url=redis_server.url, num_choices=1)


async def test_candidates_whom_nobody_chose_come_back(
    database_url: str, redis_server: RunningServer, short_folder: Path
) -> None:
    """The replica dies between draw and choice, and nobody retries."""
    async with (
        redis_proxy(redis_server, short_folder) as (proxy, frail_url),
        sampler_app(database_url, frail_url) as frail,
        sampler_app(database_url, redis_server.url) as sound,
    ):
        run = await _run(sound, "mopps")
        proxy.lose(digest("choose"), "request")
        problem(await frail.try_lease(run.id, 6, key=KEY), 503, "dependency_unavailable")
        (lease_id,) = read_hot(redis_server.url, run.id).leased()
        with Redis.from_url(redis_server.url) as redis:
            (left_ms,) = redis.zmscore(f"etude:{{{run.id}}}:leases", [lease_id])
            now_s, _ = redis.time()
            assert left_ms is not None
            assert 0 < left_ms / 1000 - now_s < 12, (
                "candidates wait ten seconds, not a lease's time"
            )
            redis.zadd(f"etude:{{{run.id}}}:leases", {lease_id: 1})

        async def back() -> bool:
            return not read_hot(redis_server.url, run.id).leased()

        await wait_until(back, what="the candidates come back")
        hot = check_laws(redis_server.url, run.id, num_tasks=NUM)
        assert (hot.count("n_leased"), hot.count("n_extra"), hot.count("n_returned")) == (0, 0, 6)
        batch = parse(await sound.try_lease(run.id, 6, key=KEY), PromptBatch)
        assert len(batch.items) == 6
        assert batch.lease is not None
        assert batch.lease.id != lease_id
        await _same(database_url, run, redis_url=redis_server.url, num_choices=1)


async def test_replay_sees_another_choice(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """The control arm swapped, what was read forged, the kept and the released exchanged."""
    run = await _run(valkey_api, "pcl")
    await _played((valkey_api,), run, redis_url=valkey.url, turns=2)
    await _same(database_url, run, redis_url=valkey.url, num_choices=2)
    last = "(SELECT max(number) FROM decisions WHERE kind = 'choose')"
    where = f"WHERE c.kind = 'choose' AND c.number = {last}"
    stored = query(database_url, f"SELECT c.tasks, c.records FROM decisions c {where}")
    tasks, records = stored[0]
    assert isinstance(tasks, str)
    assert isinstance(records, bytes)
    control, _, back = tasks.partition(" | ")
    (drawn,) = query(
        database_url,
        f"SELECT d.tasks FROM decisions d, decisions c {where} "
        "AND d.kind = 'draw' AND d.lease_id = c.lease_id",
    )[0]
    everyone = sorted(map(int, str(drawn).split()[::5]))
    read = [0.5 if str(ordinal) in back.split() else 1.0 for ordinal in everyone]
    size = 8 * len(everyone)
    forged = {
        "the control arm is": (f"{control} 39 | {back}", records),
        "back went": (tasks, records[:-size] + struct.pack(f"<{len(read)}d", *read)),
    }
    for said, (words, packed) in forged.items():
        update = f"UPDATE decisions c SET tasks = %s, records = %s {where}"
        assert change(database_url, update, words, packed) == 1
        report = await replayed(database_url, run.id)
        assert report.verdict == "different"
        assert said in report.differences[0].what
    change(database_url, f"UPDATE decisions c SET records = %s {where}", records[:-8])
    report = await replayed(database_url, run.id)
    assert report.verdict == "unexplained"
    assert "what the pool read" in report.gaps[0].why


async def test_the_same_calls_choose_the_same(valkey_api: Api) -> None:
    """Two runs of one seed over the same tasks (invariant 8)."""
    api = valkey_api
    first = await _run(api, "mopps")
    second = await _run(api, "mopps", dataset_id=first.dataset_id)
    seen: list[list[list[int]]] = []
    for run in (first, second):
        seen.append([])
        for turn in range(3):
            batch = await api.lease(run.id, 7)
            seen[-1].append([item.task.ordinal for item in batch.items])
            await api.reported(batch, report_of(batch, skill=0.5))
            await api.announced(run.id, turn + 1)
    assert seen[0] == seen[1]
    assert len({tuple(one) for one in seen[0]}) == 3


@pytest.mark.parametrize("preset", ["uniform", "pcl"])
async def test_a_fork_folds_what_a_pool_chose(
    valkey_api: Api, database_url: str, valkey: RunningServer, preset: str
) -> None:
    """In the middle of a version, into a curriculum with another pool, or with none."""
    api = valkey_api
    one = Traveller(api, await _run(api, "mopps"), database_url)
    await one.report(6, skill=0.5)
    await one.announce()
    await one.report(5, skill=0.5)
    fork = await one.fork("fork", curriculum={"preset": preset})
    await api.announced(fork.id, 2)
    batch = await api.lease(fork.id, 4)
    assert {item.lane for item in batch.items} <= {"uniform", "pool"}
    await api.reported(batch)
    await api.announced(fork.id, 3)
    report = await replayed(database_url, fork.id, redis_url=valkey.url)
    assert (report.differences, report.gaps) == ([], [])
    assert (report.ledger.first_fault, report.verdict) == (None, "same")
