"""`etude runs export` and `etude runs import`: a run to files and back, past the HTTP API.

They work on the servers themselves (`operating`), so a backup needs no running sampler and disturbs
none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..cli_options import AsJson, RunName, fail, say_json
from ..errors import SamplerError
from ..operating import DataDir, operated
from ..ports.races import RunKey
from ..service.draining import drain_all
from ..settings import Settings
from ..store.postgres.archive import plain_engine
from ..store.postgres.ledger import PostgresLedger
from ..store.redis.connection import connect
from ..store.redis.views import RedisRaces
from .manifest import ArchiveFault, Manifest
from .transfer import Imported, Tell, export_run, import_run

T = TypeVar("T")


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar for each part, on standard error; plain logs get no escape codes."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        known = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
            bars.update(known[what], completed=done, total=total)

        yield tell


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (ArchiveFault, SamplerError) as error:
        raise fail(str(error)) from error


def export(
    run: RunName,
    target: Annotated[
        Path,
        typer.Argument(help="A new FILE.tar, or a new folder.", metavar="FILE.tar|DIR"),
    ],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write a run to files: tasks, ledger, statistics, versions, decisions, checkpoints.

    All of it is as at one moment, and the run goes on meanwhile. The files hold prompts and
    answers: keep them as you keep the database.

    Example: `etude runs export first first.tar`
    """
    with operated(data_dir) as settings, _failures(), _progress() as tell:
        manifest = asyncio.run(_export(settings, run, target, tell))
    _show_export(manifest, target, as_json)
    if not manifest.log_is_complete:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            "etude: Redis does not answer: decisions that were not drained, about the last second, "
            "are not in the archive, and a replay of it will name a gap"
        )


async def _export(settings: Settings, run: str, target: Path, tell: Tell) -> Manifest:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    timeout_s = settings.dependency_timeout_s
    engine = plain_engine(settings.database_url, timeout_s=timeout_s)
    redis = connect(settings.redis_url, pool_size=1, timeout_s=timeout_s)

    async def drain(run_id: str) -> None:
        await drain_all(PostgresLedger(engine), RedisRaces(redis), RunKey(run_id, 0, 0))

    try:
        return await export_run(engine, run, target, tell=tell, drain=drain)
    finally:
        await redis.aclose()
        await engine.dispose()


def _show_export(manifest: Manifest, target: Path, as_json: bool) -> None:
    parts = {part.table: part.num_rows for part in manifest.parts}
    if as_json:
        say_json(
            {
                "run_id": manifest.run_id,
                "target": str(target),
                "seal": manifest.seal(),
                "statistics_digest": manifest.statistics_digest,
                "log_is_complete": manifest.log_is_complete,
                "rows": parts,
                "num_bytes": sum(part.num_bytes for part in manifest.parts),
            }
        )
        return
    size = sum(part.num_bytes for part in manifest.parts)
    typer.echo(
        f"{manifest.run_id}  {manifest.run_name}  version {manifest.policy_version}  "
        f"{sum(parts.values())} rows, {size / 1e6:.1f} MB in {target}\n"
        f"statistics {manifest.statistics_digest[:16]}  archive {manifest.seal()[:16]}"
    )


def import_(
    source: Annotated[
        Path, typer.Argument(help="What `etude runs export` wrote.", metavar="FILE.tar|DIR")
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Store it under this name and a new id, beside the run it came from."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Bring a run back from files: all of it, or nothing if a byte is wrong.

    Its statistics are the same bit for bit and its draws go on; leases and training batches of
    before are over. Importing the same archive again does nothing.

    Example: `etude runs import first.tar --name again`
    """
    if name is not None and not name.strip():
        raise fail("--name is empty")
    with operated(data_dir) as settings, _failures(), _progress() as tell:
        done = asyncio.run(_import(settings, source, name, tell))
    _show_import(done, as_json)


async def _import(settings: Settings, source: Path, name: str | None, tell: Tell) -> Imported:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    timeout_s = settings.dependency_timeout_s
    engine = plain_engine(settings.database_url, timeout_s=timeout_s)
    redis = connect(settings.redis_url, pool_size=2, timeout_s=timeout_s)
    try:
        return await import_run(
            engine, source, name=name, tell=tell, forget=RedisRaces(redis).forget
        )
    finally:
        await redis.aclose()
        await engine.dispose()


def _show_import(done: Imported, as_json: bool) -> None:
    manifest = done.manifest
    if as_json:
        say_json(
            {
                "run_id": done.run_id,
                "name": done.name,
                "is_new": done.is_new,
                "statistics_digest": manifest.statistics_digest,
                "rows": {part.table: part.num_rows for part in manifest.parts},
            }
        )
        return
    what = "imported" if done.is_new else "was imported before; nothing changed"
    typer.echo(
        f"{done.run_id}  {done.name}  version {manifest.policy_version}  {what}\n"
        f"statistics {manifest.statistics_digest[:16]}"
    )
