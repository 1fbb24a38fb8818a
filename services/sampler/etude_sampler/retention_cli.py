"""`etude gc` and `etude runs delete`: what goes.

`gc` works on the servers themselves (`operating`), `delete` calls the public API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from etude_proto.v1 import Deleted

from .app import connected
from .cli_options import (
    DEFAULT_URL,
    AsJson,
    Key,
    RunName,
    Url,
    client_at,
    fail,
    find_run,
    paper,
    say_json,
)
from .errors import SamplerError
from .operating import DataDir, find_row, operated
from .ports.retention import Dropped
from .settings import Settings

_WHAT = {
    "receipts": "receipts of reports, acks and versions",
    "leases": "marks of ended leases",
    "decisions": "entries of the decision log",
    "late": "ledger rows that came too late",
    "discarded": "ledger rows that a restore discarded",
    "outcomes": "ledger rows that lose single rollouts",
    "summaries": "points of the history",
    "answers": "answers of the control plane",
    "run": "rows and tables of a deleted run",
    "tasks": "tasks of deleted datasets",
}


def gc(
    run: Annotated[
        str | None,
        typer.Option(help="Only this run, by name or id; default: all, and what was deleted."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Drop what the runs' retention no longer keeps, and the rows of deleted runs and datasets.

    Every sampler does the same in small steps each minute; this does all of it now. Statistics,
    the curriculum, its checkpoints and the ledger's rows that count are never dropped by age.

    Example: `etude gc --dry-run`
    """
    with operated(data_dir) as settings:
        try:
            found = asyncio.run(_gc(settings, run, dry_run=dry_run))
        except SamplerError as error:
            raise fail(str(error)) from error
    if as_json:
        rows = [asdict(one) for one in found]
        say_json({"dry_run": dry_run, "dropped": rows})
        return
    _show(found, dry_run=dry_run)


async def _gc(settings: Settings, run: str | None, *, dry_run: bool) -> Sequence[Dropped]:
    console = Console(stderr=True)
    async with connected(settings) as sampler:
        if run is not None and not run.startswith("run_"):  # a deleted run has its id alone
            run = (await find_row(sampler.ground.catalog, run)).id
        if dry_run:
            return await sampler.sweeper.due(run)
        with console.status("sweeping") as status:

            def tell(done: Dropped) -> None:
                status.update(f"{done.run_id} {_WHAT[done.kind]}: {done.num_rows}")

            return await sampler.sweeper.sweep(run, tell=tell)


def _show(found: Sequence[Dropped], *, dry_run: bool) -> None:
    if not found:
        typer.echo("nothing to drop")
        return
    table = Table("run", "what", "would go" if dry_run else "dropped")
    for one in found:
        table.add_row(one.run_id or "-", _WHAT[one.kind], str(one.num_rows))
    paper().print(table)


def say_deleted(done: Deleted, as_json: bool) -> None:
    """What is gone."""
    typer.echo(done.model_dump_json() if as_json else f"{done.id}  {done.name}  deleted")


def delete(
    run: RunName,
    force: Annotated[
        bool, typer.Option("--force", help="Although leases are live; they are over then.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Delete a paused run with all it has learned; `etude runs export` keeps it as files.

    Example: `etude runs delete first --force`
    """
    with client_at(url, key) as client:
        say_deleted(client.delete_run(find_run(client, run).id, force=force), as_json)
