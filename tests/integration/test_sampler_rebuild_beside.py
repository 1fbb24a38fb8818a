"""A large run is rebuilt while another one is served, and its progress can be seen."""

from __future__ import annotations

import time
from itertools import pairwise

import psycopg
from redis import Redis

from etude_proto.v1 import Run
from etude_sampler.embedded import RunningServer
from support.sampler_app import Api, parse, sampler_app
from support.sampler_app_redis import check_laws
from support.waiting import wait_until

LARGE = 30_000
_COPIES = """
INSERT INTO tasks (dataset_id, ordinal, id, split, source, subtasks, body)
SELECT dataset_id, i, 'task_' || lpad(to_hex(i), 24, '0'), split, source, subtasks, body
FROM tasks, generate_series(1, %s) AS i WHERE dataset_id = %s AND ordinal = 0
"""
LONGEST_S = 1.0
"""Longest call on the other run; a quiet machine needs some milliseconds."""


async def large_run(api: Api, database_url: str) -> Run:
    """A run over copies of one task."""
    small = await api.create_run(num_tasks=1)
    with psycopg.connect(database_url.replace("+asyncpg", "", 1)) as connection:
        connection.execute(_COPIES, (LARGE - 1, small.dataset_id))
        connection.execute(
            "UPDATE datasets SET num_tasks = %s WHERE id = %s", (LARGE, small.dataset_id)
        )
    return await api.create_run(dataset_id=small.dataset_id, mode="curriculum_only")


async def test_other_runs_are_served_during_a_rebuild(
    database_url: str, redis_server: RunningServer
) -> None:
    async with sampler_app(database_url, redis_server.url) as api:
        large, other = await large_run(api, database_url), await api.create_run(num_tasks=40)
        assert large.last_rebuild is not None
        assert large.last_rebuild.reason == "created"
        with Redis.from_url(redis_server.url) as redis:
            redis.unlink(f"etude:{{{large.id}}}:meta")
        longest_s, shares = 0.0, [0.0]

        async def served_again() -> bool:
            nonlocal longest_s
            begun = time.perf_counter()
            batch = await api.lease(other.id, 4)
            assert batch.lease is not None
            path = f"/v1/leases/{batch.lease.id}/release"
            assert (await api.post(path, {"fence": batch.lease.fence})).status_code == 200
            longest_s = max(longest_s, time.perf_counter() - begun)
            shown = parse(await api.get(f"/v1/runs/{large.id}"), Run)
            if shown.loading is not None:
                assert shown.loading.num_tasks in (0, LARGE)
                shares.append(shown.loading.share)
            return shown.loading is None and shown.epoch == large.epoch + 1

        await wait_until(served_again, what="the large run is served again", timeout_s=60.0)
        assert longest_s < LONGEST_S
        assert len(set(shares)) > 2, "its progress is seen"
        assert all(earlier <= later for earlier, later in pairwise(shares))
        assert len((await api.lease(large.id, 8)).items) == 8
        check_laws(redis_server.url, large.id, num_tasks=LARGE)
        check_laws(redis_server.url, other.id, num_tasks=40)
