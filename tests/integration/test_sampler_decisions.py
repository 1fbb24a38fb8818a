"""The decision log: every draw, release and expiry, in PostgreSQL, without gaps; invariant 8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
from redis import Redis

from etude_proto.v1 import PromptBatch
from etude_sampler.embedded import RunningServer, start_redis
from etude_sampler.leasing import exponentials, lane_key
from support.sampler_app import Api, parse, query, sampler_app
from support.sampler_app_redis import read_hot
from support.waiting import wait_until

_DECISIONS = """
SELECT epoch, number, kind, lease_id, fence, policy_version, num_waiting, tasks FROM decisions
WHERE run_id = %s AND kind <> 'open' ORDER BY epoch, number
"""
Decision = tuple[object, ...]


async def drained(database_url: str, redis_url: str, run_id: str, num: int) -> list[Decision]:
    """All decisions, once the streams are empty."""

    async def done() -> bool:
        left = len(read_hot(redis_url, run_id).logged)
        return left == 0 and len(query(database_url, _DECISIONS, run_id)) >= num

    await wait_until(done, what=f"{num} decisions are in PostgreSQL")
    return query(database_url, _DECISIONS, run_id)


def drawn_words(batch: PromptBatch, lanes: list[str]) -> str:
    """A batch as the log keeps it: ordinal, entry, lane from 1, weight, slot probability."""
    return " ".join(
        f"{i.task.ordinal} {i.entry} {lanes.index(i.lane) + 1} {round(i.weight * 1e6)} "
        f"{i.slot_probability:.17g}"
        for i in batch.items
    )


async def test_every_decision_is_kept_once(
    pair: tuple[Api, Api], database_url: str, redis_server: RunningServer
) -> None:
    """Two replicas drain the same stream; numbers are whole, words are those of the batches."""
    run = await pair[0].create_run(num_tasks=20, limits={"lease_ttl_s": 0.3})
    batches = [await pair[i % 2].lease(run.id, 3, ttl_s=30) for i in range(4)]
    for batch in batches[:2]:
        await pair[1].report_cargo(batch)
    lease = batches[2].lease
    assert lease is not None
    await pair[0].post(f"/v1/leases/{lease.id}/release", {"fence": lease.fence})
    short = await pair[1].lease(run.id, 2)
    found = await drained(database_url, redis_server.url, run.id, 5 + 6 + 2)
    assert [row[1] for row in found] == list(range(1, len(found) + 1)), "no gap, nothing twice"
    draws = [row for row in found if row[2] == "draw"]
    want = [*batches, short]
    assert [row[3] for row in draws] == [b.lease.id for b in want if b.lease is not None]
    assert [row[4] for row in draws] == [b.lease.fence for b in want if b.lease is not None]
    assert [row[7] for row in draws] == [drawn_words(b, run.resolved.lanes) for b in want]
    assert [row[5] for row in draws] == [0] * 5
    assert [row[6] for row in draws] == [20, 17, 14, 11, 17]
    kinds = [row[2] for row in found]
    assert (kinds.count("report"), kinds.count("release"), kinds.count("expire")) == (6, 1, 1)
    assert {row[0] for row in found} == {run.epoch}


async def test_draws_can_be_replayed_from_the_log(
    api: Api, database_url: str, redis_server: RunningServer
) -> None:
    """Seed, task, entry and lane give the arrival times that decided the first draw."""
    run = await api.create_run(num_tasks=30, seed=99)
    await api.lease(run.id, 8)
    ((*_, waiting, words),) = await drained(database_url, redis_server.url, run.id, 1)
    assert waiting == 30
    rows = np.array(str(words).split(), dtype=object).reshape(-1, 5)
    lanes = rows[:, 2].astype(int) - 1
    order = {lane: rows[lanes == lane, 0].astype(np.int64) for lane in set(lanes.tolist())}
    everyone = np.arange(30)
    entries = np.full(30, int(rows[0, 1]))
    for lane, picked in order.items():
        draws = exponentials(
            99,
            ordinals_N=everyone,
            entries_N=entries,
            lane_keys_L=[lane_key(run.resolved.lanes[lane])],
        )[:, 0]
        earlier = [o for other in range(lane) for o in order.get(other, [])]
        stands = [n for n in everyone if lane == 0 or n % 3 >= lane - 1]
        racing = [n for n in stands if n not in earlier]
        first = sorted(racing, key=lambda n: draws[n])[: len(picked)]
        assert picked.tolist() == first


async def test_a_loss_of_redis_is_a_gap_and_no_more(database_url: str, short_folder: Path) -> None:
    """Decisions count anew in the next epoch; a replica that still knows the old one mixes nothing.

    The log of the new epoch is read at once, by replicas that have not heard of it.
    """
    server = start_redis(short_folder / "valkey", durable=False)
    try:
        async with (
            sampler_app(database_url, server.url) as first,
            sampler_app(database_url, server.url) as second,
        ):
            run = await first.create_run(num_tasks=20)
            for _ in range(3):
                await first.lease(run.id, 2)
            await drained(database_url, server.url, run.id, 3)
            with Redis.from_url(server.url) as redis:
                redis.flushall()
            made: list[PromptBatch] = []

            async def three_more() -> bool:
                answer = await second.try_lease(run.id, 2)
                if answer.status_code == 200:
                    made.append(parse(answer, PromptBatch))
                return len(made) == 3

            await wait_until(three_more, what="draws of the next epoch")
            found = await drained(database_url, server.url, run.id, 6)
            assert [(row[0], row[1]) for row in found] == [
                (e, n) for e in (1, 2) for n in (1, 2, 3)
            ]
            leases = [batch.lease.id for batch in made if batch.lease is not None]
            assert [row[3] for row in found][3:] == leases
    finally:
        server.stop()


async def test_one_broken_run_keeps_no_other_waiting(
    valkey_api: Api, database_url: str, valkey: RunningServer
) -> None:
    """A run that this version cannot read: leases of the others still expire and are logged."""
    broken = await valkey_api.create_run(num_tasks=4)
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        connection.execute(
            "UPDATE runs SET resolved = jsonb_set(resolved, '{weigher,name}', '\"gone\"') "
            "WHERE id = %s",
            (broken.id,),
        )
    others = [await valkey_api.create_run(num_tasks=4) for _ in range(3)]
    for run in others:
        await valkey_api.lease(run.id, 4, ttl_s=0.2)

    async def all_expired() -> bool:
        counts = [(await valkey_api.counts(run.id)).num_expired for run in others]
        return counts == [4, 4, 4]

    await wait_until(all_expired, what="the leases of the other runs expire")
    for run in others:
        await drained(database_url, valkey.url, run.id, 2)
