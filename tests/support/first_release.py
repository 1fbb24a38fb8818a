"""Writes `tests/integration/first_release.sql`: a filled database as the first release left it.

Run once, by the code of that release, never by a newer one; the file is then kept as it is:

    git worktree add --detach /tmp/first d12ac56
    cp tests/support/first_release.py /tmp/first/tests/support/
    cd /tmp/first && PYTHONPATH=proto:services/sampler:tests \
        PYTHON -m support.first_release FILE

It drives real replicas on real servers through two runs: one trains (reports with trajectories,
acks, a late report, an expired fence, scaffolded attempts), one is curriculum-only. Then `pg_dump`
writes schema and rows as SQL. Read by `tests/integration/test_sampler_upgrade.py`.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from etude_proto.v1 import PromptBatch, Report
from etude_sampler.embedded import binaries
from support.sampler_app import Api, query, sampler_app
from support.servers import Servers
from support.waiting import wait_until
from support.workload import cargo, group, outcomes, report_of, rolled_out, task

_ROUNDS = 3


def _scaffolded(batch: PromptBatch) -> Report:
    """A failed bare attempt, then one with a hint, of each task."""
    assert batch.lease is not None
    groups = []
    for item in batch.items:
        bare = group(item.task.id, outcomes([0.0, 0.0, 0.0, 0.0], version=batch.policy_version))
        hinted = rolled_out(item.task.id, item.task.subtasks, version=batch.policy_version)
        hint = group(item.task.id, hinted, scaffold_kind="hint", scaffold_level=1, number=1)
        groups.append(bare.model_copy(update={"attempts": [*bare.attempts, *hint.attempts]}))
    return Report(fence=batch.lease.fence, groups=groups)


async def _train(api: Api, run_id: str) -> None:
    for version in range(1, _ROUNDS + 1):
        for number in range(3):
            batch = await api.lease(run_id, 4)
            assert batch.lease is not None
            spread = (1.0, 0.0, 1.0, float(number % 2))
            for item in batch.items:
                body = cargo(batch.lease.fence, item.task.id, spread, version=batch.policy_version)
                await api.reported(batch, body)
        while (training := await api.train(run_id)).manifest.lease is None:
            pass
        await api.acked(training, version)
    late = await api.lease(run_id, 4)
    assert late.lease is not None
    path = f"/v1/leases/{late.lease.id}"
    assert (await api.post(f"{path}/release", {"fence": late.lease.fence})).status_code == 200
    assert (await api.report(late)).status_code == 409


async def _follow(api: Api, run_id: str) -> None:
    for version in range(1, _ROUNDS + 1):
        await api.reported(batch := await api.lease(run_id, 6), report_of(batch, skill=0.6))
        await api.reported(batch := await api.lease(run_id, 4), _scaffolded(batch))
        await api.announced(run_id, version)
    await api.reported(batch := await api.lease(run_id, 6), report_of(batch, skill=0.7))


async def _fill(database_url: str, redis_url: str) -> None:
    async with sampler_app(database_url, redis_url) as api:
        dataset = await api.create_dataset("first", tasks=[task(number) for number in range(24)])
        training = await api.create_run(name="training", dataset_id=dataset)
        await _train(api, training.id)
        follower = await api.create_run(name="follower", dataset_id=dataset, mode="curriculum_only")
        await _follow(api, follower.id)
        await api.post(f"/v1/runs/{follower.id}/pause")
        live = await api.lease(training.id, 4)
        assert live.lease is not None, "a lease is open when the release ends"
        sql = "SELECT count(*) FROM decisions WHERE lease_id = %s"

        async def drained() -> bool:
            return query(database_url, sql, live.lease.id if live.lease else "") == [(1,)]

        await wait_until(drained, what="the decisions reach PostgreSQL")


def main() -> None:
    """Fill a database and write its dump to the file named by the first argument."""
    servers = Servers()
    try:
        with servers.database() as url:
            asyncio.run(_fill(url, servers.valkey.url))
            pg_dump = binaries.postgres_folder() / "pg_dump"
            name = url.rsplit("/", 1)[-1].split("?")[0]
            flags = ("--no-owner", "--no-privileges", "--inserts", "--rows-per-insert=50")
            dump = subprocess.run(
                [str(pg_dump), *flags, servers.postgres.dsn_of(name)],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
    finally:
        servers.close()
    kept = [line for line in dump.splitlines() if line and not line.startswith(("--", "\\"))]
    Path(sys.argv[1]).write_text("\n".join(kept) + "\n", "utf-8")


if __name__ == "__main__":
    main()
