"""A run lives on one slot of a Redis Cluster: every script is accepted by a server in cluster mode.

Such a server refuses a script whose keys hash to different slots, and one that touches a key of
another slot than those it declared.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from etude_proto.v1 import Released
from etude_sampler.embedded import binaries
from etude_sampler.embedded.binaries import Flavour
from etude_sampler.store.redis.keys import RunKeys, run_of_bell
from etude_sampler.store.redis.scripts import NAMES, load
from support.sampler_app import Api, parse, sampler_app
from support.sampler_app_replica import free_port
from support.waiting import wait_for, wait_until

ELSEWHERE = {"throttle", "rebase", "reweigh", "move"}
"""Of no run, or for clocks, ages and rounds that a short flow does not reach; their keys are
below."""


@contextmanager
def cluster_of_one(folder: Path, flavour: Flavour) -> Iterator[str]:
    """A server in cluster mode that holds all slots; its URL."""
    folder.mkdir()
    socket, port = folder / "redis.sock", free_port()
    command = [
        *(str(binaries.redis_server(flavour)), "--cluster-enabled", "yes", "--port", str(port)),
        *("--cluster-port", str(free_port()), "--bind", "127.0.0.1", "--unixsocket", str(socket)),
        *("--dir", str(folder), "--save", "", "--appendonly", "no"),
        *("--logfile", str(folder / "log")),
    ]
    process = subprocess.Popen(command)
    url = f"unix://{quote(str(socket))}"
    try:
        with Redis.from_url(url) as redis:

            def answers() -> bool:
                with contextlib.suppress(RedisError):
                    return bool(redis.ping())
                return False

            def is_whole() -> bool:
                return bool(redis.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

            wait_for(answers, what=f"the server answers; see {folder / 'log'}")
            redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_for(is_whole, what="the cluster is whole")
        yield url
    finally:
        process.kill()
        process.wait(10)


async def every_step(api: Api) -> None:
    """A flow through every script that a short one reaches."""
    run = await api.create_run(num_tasks=16, limits={"training_lease_ttl_s": 30.0})
    kept, back = await api.lease(run.id, 4), await api.lease(run.id, 4)
    assert kept.lease is not None
    assert back.lease is not None
    path = f"/v1/leases/{kept.lease.id}/extend"
    assert (await api.post(path, {"fence": kept.lease.fence})).status_code == 200
    path = f"/v1/leases/{back.lease.id}/release"
    assert parse(await api.post(path, {"fence": back.lease.fence}), Released).num_released == 4
    await api.lease(run.id, 2, ttl_s=0.2)
    await api.report_cargo(kept)
    training = await api.train(run.id)
    assert len(training.bodies) == 4
    assert (await api.acked(training, 1)).num_groups == 4
    for verb in ("pause", "resume", "rebuild"):
        assert (await api.post(f"/v1/runs/{run.id}/{verb}")).status_code == 200
    await api.lease(run.id, 2, ttl_s=0.2)

    async def expired() -> bool:
        return (await api.counts(run.id)).num_leased == 0

    await wait_until(expired, what="the unattended lease has run out")
    assert len((await api.lease(run.id, 16)).items) == 16
    for preset in ("plr", "knapsack"):  # a pool chooses, a budget allots
        other = await api.create_run(num_tasks=8, curriculum={"preset": preset})
        assert len((await api.lease(other.id, 2)).items) == 2


async def a_bank_gives_way(api: Api, redis: Redis) -> None:
    """What a full server asks of a run's bank, here with room to spare."""
    limits = {"training_batch_groups": 2, "training_lease_ttl_s": 60.0}
    run = await api.create_run(curriculum={"preset": "vcrl"}, num_tasks=8, limits=limits)
    await api.report_cargo(await api.lease(run.id, 2))
    assert (await api.acked(await api.train(run.id), 1)).num_groups == 2
    keys = RunKeys(run.id)
    named = [keys.meta, keys.groups, keys.cargo, keys.bank, keys.banked]
    epoch = redis.hget(keys.meta, "epoch")
    assert isinstance(epoch, bytes)
    assert redis.eval(load("shed").source, len(named), *named, epoch) == [b"ok", 2]
    assert redis.hget(keys.meta, "cargo_bytes") == b"0"
    assert not redis.exists(keys.bank, keys.banked, keys.cargo)


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_every_script_runs_on_one_slot(
    flavour: Flavour, database_url: str, short_folder: Path
) -> None:
    with cluster_of_one(short_folder / flavour, flavour) as url:
        async with sampler_app(database_url, url) as api:
            await every_step(api)
            with Redis.from_url(url) as redis:
                await a_bank_gives_way(api, redis)
        with Redis.from_url(url) as redis:
            digests = [load(name).digest for name in NAMES]
            known = redis.script_exists(*digests)
        ran = {name for name, there in zip(NAMES, known, strict=True) if there}
        assert ran == set(NAMES) - ELSEWHERE


def test_all_keys_of_a_run_hash_to_its_slot() -> None:
    keys = RunKeys("run_0123456789ab")
    plain = [name for name, value in vars(RunKeys).items() if isinstance(value, property)]
    names = [getattr(keys, name) for name in plain]
    names += [*keys.lanes(65), keys.lease("lease_1"), keys.lease_tasks("lease_1")]
    assert len(names) == len(set(names))
    assert {key_slot(name.encode()) for name in names} == {key_slot(b"run_0123456789ab")}
    assert run_of_bell(keys.bell) == "run_0123456789ab"
