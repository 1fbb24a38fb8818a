"""Between a database and an archive: the rows as they come, memory bounded, progress told.

The database side is `store.postgres.archive` (out) and `archive_loading` (in).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from .. import __version__
from ..errors import DependencyUnavailable
from ..service.identifiers import run_id_of
from ..store.postgres.archive import RunReader, RunTable, reading
from ..store.postgres.archive_loading import Incoming, Part, load
from .container import Archive, ArchiveWriter, opened, writing
from .manifest import Manifest, PartEntry

Tell = Callable[[str, int, int], None]
"""What is being worked on, how much of it is done, of how much."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import."""

    run_id: str
    name: str
    is_new: bool
    """False: the same archive was imported before, nothing was done."""
    manifest: Manifest


async def export_run(
    engine: AsyncEngine,
    run: str,
    target: Path,
    *,
    tell: Tell,
    drain: Callable[[str], Awaitable[None]],
) -> Manifest:
    """Write a run, as it is at this moment, to a new folder or tar; the run goes on meanwhile.

    Args:
        engine: of `store.postgres.archive.plain_engine`.
        run: id, or name (if only one run has it).
        target: ends in `.tar` for one file, else becomes a folder.
        tell: called as rows are written.
        drain: moves a run's decision log from Redis to the database; where Redis does not answer,
            the archive says that the newest decisions are not in it.

    Raises:
        RunNotFound: no such run.
        ArchiveFault: `target` exists or cannot be written.
        DependencyUnavailable: PostgreSQL does not answer.
    """
    with writing(target) as archive:
        log_is_complete = True

        async def moved(run_id: str) -> None:
            nonlocal log_is_complete
            try:
                await drain(run_id)
            except DependencyUnavailable:
                log_is_complete = False

        async with reading(engine, run, drain=moved) as source:
            parts = [await _write(source, archive, table, tell) for table in await source.tables()]
            head = source.head
            manifest = Manifest(
                etude_version=__version__,
                schema_revision=head.revision,
                created_at=datetime.now(UTC),
                run_id=head.id,
                run_name=head.name,
                policy_version=head.policy_version,
                dataset_id=head.dataset_id,
                dataset_name=head.dataset_name,
                dataset_created_at=head.dataset_created_at,
                num_tasks=head.num_tasks,
                dataset_digest=await source.dataset_digest(),
                statistics_digest=await source.digest(),
                parts=parts,
                log_is_complete=log_is_complete,
            )
        archive.finish(manifest)
    return manifest


async def _write(
    source: RunReader, archive: ArchiveWriter, table: RunTable, tell: Tell
) -> PartEntry:
    total, done = await source.count(table), 0
    tell(table.name, 0, total)
    with archive.open_part(table.name) as file:

        async def write(data: bytes) -> None:
            nonlocal done
            file.write(data)
            done += data.count(b"\n")
            tell(table.name, done, total)

        num_rows = await source.write(table, write)
    written = archive.close_part(table.name)
    return PartEntry(
        table=table.name,
        columns=list(table.columns),
        num_rows=num_rows,
        num_bytes=written.num_bytes,
        sha256=written.sha256,
    )


async def import_run(
    engine: AsyncEngine,
    source: Path,
    *,
    name: str | None,
    tell: Tell,
    forget: Callable[[str], Awaitable[None]],
) -> Imported:
    """Check all of an archive, then store its run, all or nothing.

    Args:
        engine: of `store.postgres.archive.plain_engine`.
        source: folder or tar.
        name: store it beside others under this name and a new id; None: under its own.
        tell: called as bytes are checked and rows written.
        forget: drops what Redis may hold under a run id.

    Raises:
        ArchiveFault: damaged, truncated, or of a newer format; nothing is imported.
        IllegalTransition: the run or its name is there already, or the rows do not fit.
        DependencyUnavailable: a server does not answer; nothing is imported.
    """
    with opened(source) as archive:
        manifest = archive.manifest
        _verify(archive, tell)
        seal = manifest.seal()
        run_id = manifest.run_id if name is None else run_id_of(f"import {seal} {name}")
        incoming = Incoming(
            run_id=run_id,
            name=name or manifest.run_name,
            seal=seal,
            dataset_id=manifest.dataset_id,
            dataset_name=manifest.dataset_name,
            dataset_created_at=manifest.dataset_created_at,
            num_tasks=manifest.num_tasks,
            dataset_digest=manifest.dataset_digest,
            statistics_digest=manifest.statistics_digest,
        )
        parts = [_part(archive, entry, tell) for entry in manifest.parts]
        is_new = await load(engine, incoming, parts, forget=forget)
    return Imported(run_id, incoming.name, is_new, manifest)


def _verify(archive: Archive, tell: Tell) -> None:
    total = sum(part.num_bytes for part in archive.manifest.parts)
    done = 0

    def on_bytes(num: int) -> None:
        nonlocal done
        done += num
        tell("checksums", done, total)

    for part in archive.manifest.parts:
        archive.verify(part, on_bytes)


def _part(archive: Archive, entry: PartEntry, tell: Tell) -> Part:
    async def lines() -> AsyncIterator[bytes]:
        done = 0
        for piece in archive.lines(entry):
            done += piece.count(b"\n")
            tell(entry.table, done, entry.num_rows)
            yield piece

    return Part(entry.table, tuple(entry.columns), entry.num_rows, lines)
