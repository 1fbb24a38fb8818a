"""A Redis server that answers, but takes no writes or no commands: 503, and on it goes after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from etude_sampler.embedded import start_redis
from etude_sampler.embedded.binaries import Flavour
from support.sampler_app import problem, query, sampler_app
from support.sampler_app_redis import check_laws
from support.waiting import wait_for

Step = Callable[[Redis, Path], None]


def follow_nobody(redis: Redis, folder: Path) -> None:
    """READONLY: a failover has made it a replica."""
    redis.replicaof("127.0.0.1", "1")


def follow_nobody_mutely(redis: Redis, folder: Path) -> None:
    """MASTERDOWN: a replica that shows nothing stale."""
    redis.config_set("replica-serve-stale-data", "no")
    redis.replicaof("127.0.0.1", "1")


def lead(redis: Redis, folder: Path) -> None:
    """A primary again."""
    redis.replicaof("NO", "ONE")


def fail_to_save(redis: Redis, folder: Path) -> None:
    """MISCONF: the snapshot cannot be written, for a folder has its name."""
    (folder / "dump.rdb").mkdir()
    redis.config_set("save", "3600 1")
    redis.bgsave()
    wait_for(
        lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err",
        what="the snapshot has failed",
    )


def save(redis: Redis, folder: Path) -> None:
    """Snapshots work again."""
    (folder / "dump.rdb").rmdir()
    redis.save()


def ask_for_replicas(redis: Redis, folder: Path) -> None:
    """NOREPLICAS: writes wait for replicas that are not there."""
    redis.config_set("min-replicas-to-write", 1)


def ask_for_none(redis: Redis, folder: Path) -> None:
    """Writes wait for nobody."""
    redis.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
@pytest.mark.parametrize(
    ("refuse", "relent"),
    [
        (follow_nobody, lead),
        (follow_nobody_mutely, lead),
        (fail_to_save, save),
        (ask_for_replicas, ask_for_none),
    ],
)
async def test_a_server_that_refuses_is_an_outage(
    flavour: Flavour, refuse: Step, relent: Step, database_url: str, short_folder: Path
) -> None:
    folder = short_folder / flavour
    server = start_redis(folder, durable=False, flavour=flavour)
    try:
        async with sampler_app(database_url, server.url) as api:
            run = await api.create_run(num_tasks=12)
            batch = await api.lease(run.id, 4)
            assert batch.lease is not None
            with Redis.from_url(server.url) as redis:
                refuse(redis, folder)
            path = f"/v1/leases/{batch.lease.id}"
            for answer in (
                await api.try_lease(run.id, 4),
                await api.report(batch, key="later"),
                await api.post(f"{path}/extend", {"fence": batch.lease.fence}),
                await api.post(f"{path}/release", {"fence": batch.lease.fence}),
                await api.try_train(run.id),
            ):
                assert problem(answer, 503, "dependency_unavailable").retryable
                assert int(answer.headers["retry-after"]) >= 1
            assert query(database_url, "SELECT count(*) FROM ledger") == [(0,)]
            with Redis.from_url(server.url) as redis:
                relent(redis, folder)
            assert (await api.reported(batch, key="later")).num_remaining == 0
            assert query(database_url, "SELECT epoch FROM runs") == [(run.epoch,)]
            check_laws(server.url, run.id, num_tasks=12)
    finally:
        server.stop()
