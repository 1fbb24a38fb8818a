"""A run as files and back: bit-identical statistics, and nothing half imported."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from etude_proto.v1 import Run
from etude_sampler.archives.container import opened
from etude_sampler.archives.manifest import MANIFEST, ArchiveFault, Manifest
from etude_sampler.archives.transfer import Imported, export_run, import_run
from etude_sampler.embedded import RunningServer
from etude_sampler.errors import IllegalTransition, RunNotFound
from etude_sampler.store.postgres.archive import plain_engine, statistics_digest
from etude_sampler.store.postgres.engine import raw
from etude_sampler.store.redis.connection import connect
from etude_sampler.store.redis.views import RedisRaces
from support.sampler_app import Api, problem, query, sampler_app
from support.servers import Servers
from support.workload import report_of

PARTS = {"ledger", "task_statistics", "policy_versions", "receipts", "decisions", "predictions"}


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody sees, but that must make sense."""
    assert done >= 0, what
    assert total >= 0, what


async def written(database_url: str, run: str, target: Path) -> Manifest:
    """Export a run."""
    engine = plain_engine(database_url, timeout_s=10.0)
    try:
        return await export_run(engine, run, target, tell=silent)
    finally:
        await engine.dispose()


async def read(
    database_url: str, redis: RunningServer, source: Path, name: str | None = None
) -> Imported:
    """Import an archive."""
    engine = plain_engine(database_url, timeout_s=10.0)
    client = connect(redis.url, pool_size=1, timeout_s=10.0)
    try:
        forget = RedisRaces(client).forget
        return await import_run(engine, source, name=name, tell=silent, forget=forget)
    finally:
        await client.aclose()
        await engine.dispose()


async def digest(database_url: str, run_id: str) -> str:
    """Digest of a run's statistics."""
    engine = plain_engine(database_url, timeout_s=10.0)
    try:
        async with raw(engine) as connection:
            return await statistics_digest(connection, run_id)
    finally:
        await engine.dispose()


async def practise(api: Api, run: Run, versions: int = 2) -> None:
    """Some batches and versions of a curriculum-only run."""
    first = (await api.view(run.id)).policy_version
    for version in range(first + 1, first + versions + 1):
        await api.reported(batch := await api.lease(run.id, 5), report_of(batch))
        await api.announced(run.id, version)
    await api.reported(batch := await api.lease(run.id, 3), report_of(batch))


def everything(database_url: str) -> list[tuple[object, ...]]:
    """How many rows every table of a database has."""
    names = query(
        database_url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p') ORDER BY relname",
    )
    return [(name, *query(database_url, f"SELECT count(*) FROM {name}")) for (name,) in names]


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


def _truncate(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


def _flip(archive: Path) -> None:
    """Another byte in the middle of the ledger's part."""
    with tarfile.open(archive) as tar:
        member = tar.getmember("ledger.tsv.gz")
        at = member.offset_data + member.size // 2
    data = bytearray(archive.read_bytes())
    data[at] ^= 1
    archive.write_bytes(bytes(data))


def _manifest(archive: Path, change: Callable[[dict[str, object]], None]) -> None:
    folder = archive.with_suffix(".files")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    content = json.loads((folder / MANIFEST).read_bytes())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)


def _newer(archive: Path) -> None:
    _manifest(archive, lambda content: content.update(format_version=99))


def _other_name(archive: Path) -> None:
    _manifest(archive, lambda content: content.update(run_name="forged"))


def _without_part(archive: Path) -> None:
    folder = archive.with_suffix(".files")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (folder / "ledger.tsv.gz").unlink()
    archive.unlink()
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)


def _noise(archive: Path) -> None:
    archive.write_bytes(b"not an archive" * 100)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_truncate, "truncated"),
        (_flip, "ledger.tsv.gz is damaged: its digest"),
        (_newer, "format 99.*upgrade Etude"),
        (_other_name, "its seal does not match"),
        (_without_part, "no ledger.tsv.gz"),
        (_noise, "truncated or damaged"),
    ],
)
async def test_a_damaged_archive_imports_nothing(  # noqa: PLR0917
    practised: Run,
    database_url: str,
    valkey: RunningServer,
    servers: Servers,
    tmp_path: Path,
    damage: Callable[[Path], None],
    sentence: str,
) -> None:
    """Each kind of damage has its sentence, and the database stays as it was."""
    archive = tmp_path / "run.tar"
    await written(database_url, practised.id, archive)
    damage(archive)
    with servers.database() as other:
        before = everything(other)
        with pytest.raises(ArchiveFault, match=sentence):
            await read(other, valkey, archive)
        assert everything(other) == before


async def test_rows_that_lie_roll_back_the_whole_import(
    practised: Run, database_url: str, valkey: RunningServer, servers: Servers, tmp_path: Path
) -> None:
    """Sealed and well-formed, but the statistics are not those of the digest."""
    folder = tmp_path / "folder"
    await written(database_url, practised.id, folder)
    with opened(folder) as archive:
        manifest = archive.manifest
    part = next(part for part in manifest.parts if part.table == "task_statistics")
    lines = gzip.decompress((folder / part.file).read_bytes()).splitlines(keepends=True)
    cells = lines[0].split(b"\t")
    cells[4] = b"0.123456789"
    forged = gzip.compress(b"".join([b"\t".join(cells), *lines[1:]]))
    (folder / part.file).write_bytes(forged)
    entry = part.model_copy(update={"num_bytes": len(forged), "sha256": _sha(forged)})
    parts = [entry if one is part else one for one in manifest.parts]
    (folder / MANIFEST).write_bytes(manifest.model_copy(update={"parts": parts}).to_bytes())
    with servers.database() as other:
        before = everything(other)
        with pytest.raises(IllegalTransition, match="statistics differ"):
            await read(other, valkey, folder)
        assert everything(other) == before


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
        async with sampler_app(other, valkey.url) as api:
            await api.loaded(run.id)
            problem(await api.report(batch), 409, "lease_superseded")
            view = await api.view(run.id)
            assert (view.num_groups_late, view.num_groups_applied) == (4, 0)
