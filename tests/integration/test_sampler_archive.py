"""A run as files and back: bit-identical statistics, and nothing half imported."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import psycopg
import pytest

from etude_proto.v1 import Run
from etude_sampler.archives.manifest import ArchiveFault
from etude_sampler.embedded import RunningServer
from etude_sampler.errors import IllegalTransition, RunNotFound
from support.archives import digest, everything, practise, read, written
from support.sampler_app import Api, problem, query, sampler_app
from support.servers import Servers

PARTS = {"ledger", "task_statistics", "policy_versions", "receipts", "decisions", "predictions"}


@pytest.fixture
async def practised(valkey_api: Api) -> Run:
    """A run with history."""
    run = await valkey_api.create_run(num_tasks=12, mode="curriculum_only", name="origin")
    await practise(valkey_api, run)
    return run


@pytest.mark.parametrize("target", ["run.tar", "folder"])
async def test_a_run_comes_back_bit_for_bit_in_another_database(  # noqa: PLR0917
    valkey_api: Api,
    practised: Run,
    database_url: str,
    valkey: RunningServer,
    servers: Servers,
    tmp_path: Path,
    target: str,
) -> None:
    """Statistics, curriculum, history and totals are the same there, and draws go on."""
    before = await valkey_api.view(practised.id)
    manifest = await written(database_url, "origin", tmp_path / target)
    assert manifest.run_id == practised.id
    assert {part.table for part in manifest.parts} >= PARTS
    assert {part.table: part.num_rows for part in manifest.parts}["ledger"] == 13
    with servers.database() as other:
        # The first database must be silent: both would keep the run in one Redis.
        again = await read(other, valkey, tmp_path / target, name="copy")
        assert again.is_new
        assert await digest(other, again.run_id) == manifest.statistics_digest
        assert await digest(database_url, practised.id) == manifest.statistics_digest
        async with sampler_app(other, valkey.url) as api:
            await api.loaded(again.run_id)
            after = await api.view(again.run_id)
            same = ("policy_version", "subtasks", "arms", "num_groups_applied", "num_groups_late")
            assert after.model_dump(include=set(same)) == before.model_dump(include=set(same))
            assert after.counts.num_waiting == 12
            history = (await api.get(f"/v1/runs/{again.run_id}/history")).json()["items"]
            origin = (await valkey_api.get(f"/v1/runs/{practised.id}/history")).json()["items"]
            assert history == origin
            run = practised.model_copy(update={"id": again.run_id})
            await practise(api, run)
            assert (await api.view(again.run_id)).num_groups_applied == 26
            assert query(other, "SELECT count(*), count(DISTINCT apply_seq) FROM ledger") == [
                (26, 26)
            ]


async def test_an_archive_is_one_moment_of_a_run_that_goes_on(
    valkey_api: Api, practised: Run, database_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    """Ledger, statistics and versions agree with each other, whatever was reported meanwhile."""
    busy = True

    async def work() -> None:
        while busy:
            await practise(valkey_api, practised, 1)

    working = asyncio.create_task(work())
    for number in range(4):
        target = tmp_path / f"{number}.tar"
        manifest = await written(database_url, practised.id, target)
        copy = await read(database_url, valkey, target, name=f"copy {number}")
        counts = query(
            database_url,
            "SELECT (SELECT sum(n) FROM task_statistics WHERE run_id = %s AND kind = 'none'), "
            "(SELECT count(*) FROM ledger WHERE run_id = %s AND verdict = 'applied'), "
            "(SELECT max(version) FROM policy_versions WHERE run_id = %s)",
            *[copy.run_id] * 3,
        )
        applied = {part.table: part.num_rows for part in manifest.parts}["ledger"]
        assert counts == [(applied, applied, manifest.policy_version)]
    busy = False
    await working


async def test_importing_twice_does_nothing_and_a_clash_is_refused(
    valkey_api: Api, practised: Run, database_url: str, valkey: RunningServer, tmp_path: Path
) -> None:
    """The run that is there is never touched."""
    archive = tmp_path / "run.tar"
    await written(database_url, practised.id, archive)
    with pytest.raises(IllegalTransition, match="import the archive beside it with --name"):
        await read(database_url, valkey, archive)
    first = await read(database_url, valkey, archive, name="copy")
    await valkey_api.get(f"/v1/runs/{first.run_id}")
    held = everything(database_url)
    second = await read(database_url, valkey, archive, name="copy")
    assert (second.run_id, second.is_new) == (first.run_id, False)
    assert everything(database_url) == held
    taken = await valkey_api.create_run(name="taken")
    with pytest.raises(IllegalTransition, match=rf"{taken.id} is called 'taken'"):
        await read(database_url, valkey, archive, name="taken")


async def test_a_dataset_with_other_tasks_is_no_place_for_a_run(
    practised: Run, database_url: str, valkey: RunningServer, servers: Servers, tmp_path: Path
) -> None:
    """Ordinals name tasks by their place in the dataset, so the tasks must be the same."""
    archive = tmp_path / "run.tar"
    await written(database_url, practised.id, archive)
    with servers.database() as other:
        query_ = "INSERT INTO datasets (id, name, num_tasks) VALUES (%s, 'x', 0) RETURNING id"
        query(other, query_, practised.dataset_id)
        before = everything(other)
        with pytest.raises(IllegalTransition, match="holds other tasks"):
            await read(other, valkey, archive)
        assert everything(other) == before


async def test_a_column_of_a_later_schema_is_named(
    practised: Run, database_url: str, valkey: RunningServer, servers: Servers, tmp_path: Path
) -> None:
    """An archive of a newer database says what this one lacks."""
    sql = b"ALTER TABLE ledger ADD COLUMN mood text DEFAULT 'good'"
    with psycopg.connect(database_url.replace("+asyncpg", "")) as connection:
        connection.execute(sql)
    archive = tmp_path / "run.tar"
    await written(database_url, practised.id, archive)
    with (
        servers.database() as other,
        pytest.raises(IllegalTransition, match=r"ledger\.mood.*etude migrate"),
    ):
        await read(other, valkey, archive)


async def test_an_export_is_complete_or_not_there(
    practised: Run, database_url: str, tmp_path: Path
) -> None:
    """No run, a taken name, a missing folder: nothing is left behind."""
    with pytest.raises(RunNotFound):
        await written(database_url, "nobody", tmp_path / "run.tar")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ArchiveFault, match="is there already"):
        await written(database_url, practised.id, tmp_path / "taken")
    with pytest.raises(ArchiveFault, match="there is no folder"):
        await written(database_url, practised.id, tmp_path / "missing" / "run.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    shutil.rmtree(tmp_path / "taken")


async def test_leases_of_before_are_over_in_an_imported_run(
    valkey_api: Api, database_url: str, valkey: RunningServer, servers: Servers, tmp_path: Path
) -> None:
    """The epoch is higher, so a report of an old lease is late and counts nowhere."""
    run = await valkey_api.create_run(num_tasks=8, mode="curriculum_only")
    batch = await valkey_api.lease(run.id, 4)
    archive = tmp_path / "run.tar"
    await written(database_url, run.id, archive)
    with servers.database() as other:
        await read(other, valkey, archive)
        assert query(other, "SELECT epoch FROM runs") == [(run.epoch + 1,)]
        async with sampler_app(other, valkey.url) as api:
            await api.loaded(run.id)
            problem(await api.report(batch), 409, "lease_superseded")
            view = await api.view(run.id)
            assert (view.num_groups_late, view.num_groups_applied) == (4, 0)


async def test_a_receipted_report_gets_its_receipt_after_the_database_was_lost(
    valkey_api: Api, database_url: str, valkey: RunningServer, servers: Servers, tmp_path: Path
) -> None:
    """The worker never heard the answer; the archive knows it, and counts nothing twice."""
    run = await valkey_api.create_run(num_tasks=8, mode="curriculum_only")
    batch = await valkey_api.lease(run.id, 4)
    first = await valkey_api.report(batch, key="unheard")
    archive = tmp_path / "run.tar"
    await written(database_url, run.id, archive)
    with servers.database() as other:
        await read(other, valkey, archive)
        async with sampler_app(other, valkey.url) as api:
            await api.loaded(run.id)
            again = await api.report(batch, key="unheard")
            assert (again.status_code, again.content) == (200, first.content)
            assert (await api.view(run.id)).num_groups_applied == 4
