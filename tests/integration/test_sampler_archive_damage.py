"""Damaged archives: each kind of damage has its sentence, and nothing is half imported."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from etude_proto.v1 import Run
from etude_sampler.archives.container import opened
from etude_sampler.archives.manifest import MANIFEST, ArchiveFault
from etude_sampler.embedded import RunningServer
from etude_sampler.errors import IllegalTransition
from support.archives import everything, practise, read, written
from support.sampler_app import Api
from support.servers import Servers


@pytest.fixture
async def practised(valkey_api: Api) -> Run:
    """A run with history."""
    run = await valkey_api.create_run(num_tasks=12, mode="curriculum_only", name="origin")
    await practise(valkey_api, run)
    return run


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
