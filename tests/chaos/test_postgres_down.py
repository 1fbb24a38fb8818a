"""PostgreSQL is away: calls say so in time, the real worker keeps its results and delivers them.

Away in two ways: it refuses connections, or it swallows all that is sent and says nothing.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import pytest

from etude_client import AsyncEtudeClient
from etude_proto.v1 import Problem, RunMode
from etude_rollout.service import RolloutService
from etude_sampler.embedded import RunningServer
from support.rollout_parts import tiny_policy
from support.rollout_service import Observer, create_run, rolling_out, until
from support.sampler_app import query
from support.sampler_app_replica import Replica, replica
from support.storm_proxy import Link, link
from support.waiting import wait_until

pytestmark = pytest.mark.chaos

TIMEOUT_S = 2.0
SLACK_S = 2.0
"""For a loaded machine."""


@asynccontextmanager
async def behind_a_link(
    database_url: str, valkey: RunningServer, folder: Path
) -> AsyncIterator[tuple[Replica, Link]]:
    """A replica whose PostgreSQL can be taken away."""
    head, _, tail = database_url.partition("?host=")
    host, _, port = tail.partition("&port=")
    name = f".s.PGSQL.{port}"
    url = f"{head}?host={quote(str(folder), safe='')}&port={port}"
    timeout = {"ETUDE_DEPENDENCY_TIMEOUT_S": str(TIMEOUT_S)}
    async with (
        link("postgres", Path(unquote(host)) / name, listen=folder / name) as way,
        replica(url, valkey.url, log=folder / "log", environment=timeout) as started,
    ):
        yield started, way


async def ask(http: httpx.AsyncClient, url: str, run_id: str, *, key: str) -> httpx.Response:
    """Ask for a prompt batch."""
    return await http.post(
        f"{url}/v1/runs/{run_id}/prompt-batches",
        json={"num_tasks": 1, "worker": "asker"},
        headers={"Idempotency-Key": key},
    )


async def refused_in_time(url: str, run_id: str) -> None:
    """After the second for which a run is cached, a lease is refused as the contract says."""
    async with httpx.AsyncClient(timeout=30.0) as http:
        answers: list[tuple[httpx.Response, float]] = []

        async def refused() -> bool:
            began = time.monotonic()
            answer = await ask(http, url, run_id, key=f"asked-{len(answers)}")
            answers.append((answer, time.monotonic() - began))
            return answer.status_code != 200

        await wait_until(refused, what="a lease is refused", timeout_s=30.0)
    answer, took_s = answers[-1]
    assert answer.status_code == 503
    assert float(answer.headers["retry-after"]) > 0
    assert Problem.model_validate_json(answer.content).code.value == "dependency_unavailable"
    # A call may wait for PostgreSQL twice: to read, then to give back what it had drawn.
    assert took_s < 2 * TIMEOUT_S + SLACK_S


async def holds_results(service: RolloutService) -> None:
    """The worker has groups that it cannot deliver."""
    await until(lambda: service.status.groups_reporting >= 1, "results are held")


@pytest.mark.parametrize("away", ["refuses", "swallows"])
async def test_leases_are_refused_in_time_and_workers_keep_their_results(
    away: str, database_url: str, valkey: RunningServer, short_folder: Path, tmp_path: Path
) -> None:
    policy = tiny_policy(tmp_path / "tiny")
    async with behind_a_link(database_url, valkey, short_folder) as (sampler, way):
        async with AsyncEtudeClient(sampler.url, timeout_s=10.0) as client:
            observer = Observer(
                client, await create_run(client, mode=RunMode.CURRICULUM_ONLY, lease_ttl_s=120.0)
            )
            async with rolling_out(policy, sampler.url, tmp_path) as service:
                await until(lambda: service.status.deliveries["accepted"] >= 2, "work goes on")
                await until(lambda: service.status.groups_generating >= 1, "groups are made")
                if away == "refuses":
                    way.refuse()
                else:
                    way.swallow()
                await holds_results(service)
                await refused_in_time(sampler.url, observer.run.id)
                num_before = query_applied(database_url)
                way.clear()
                await until(lambda: service.status.groups_reporting == 0, "all is delivered")
                await until(
                    lambda: service.status.deliveries["accepted"] > num_before, "work goes on"
                )
        deliveries = service.status.deliveries
        assert set(+deliveries) == {"accepted"}, f"something was lost: {deliveries}"
        assert query_applied(database_url) == deliveries["accepted"]


def query_applied(database_url: str) -> int:
    """Groups that the ledger counts, read past the link."""
    ((num,),) = query(database_url, "SELECT count(*) FROM ledger WHERE verdict = 'applied'")
    return int(str(num))
