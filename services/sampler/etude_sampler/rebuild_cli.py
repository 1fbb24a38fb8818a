"""`etude rebuild`: load the hot state of runs anew from PostgreSQL, over the public API."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import Rebuild, RebuildReason, Run

from .cli_options import DEFAULT_URL, AsJson, Key, Url, find_run

_TIMEOUT_S = 600.0
_LOOK_S = 0.25
FOUND = {
    RebuildReason.CREATED: "was new",
    RebuildReason.MISSING: "was not in Redis, or only as another server's copy",
    RebuildReason.EPOCH: "was in Redis at another epoch",
    RebuildReason.REWOUND: "was in Redis as an older copy of itself",
    RebuildReason.ASKED: "was rebuilt as asked",
}


def told(rebuild: Rebuild) -> str:
    """What a rebuild found and did, in a line."""
    return (
        f"{FOUND[rebuild.reason]}; {rebuild.num_tasks} tasks ({rebuild.num_tasks_seen} with "
        f"statistics) in {rebuild.seconds:.1f} s; epoch {rebuild.epoch}; statistics sha256 "
        f"{rebuild.statistics_digest[:16]}"
    )


def _watched(client: EtudeClient, run: Run, bar: Progress) -> Rebuild:
    """Rebuild a run and show how far it is."""
    task = bar.add_task(run.name, total=run.num_tasks)
    with ThreadPoolExecutor(1) as pool:
        done: Future[Rebuild] = pool.submit(client.rebuild_run, run.id)
        while not done.done():
            try:
                done.result(_LOOK_S)
            except TimeoutError:
                loading = client.get_run(run.id).loading
                if loading is not None:
                    bar.update(task, completed=loading.num_loaded)
    bar.update(task, completed=run.num_tasks)
    return done.result()


def _all_runs(client: EtudeClient) -> list[Run]:
    found, cursor = [], None
    while True:
        page = client.list_runs(limit=1000, cursor=cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def rebuild(
    run: Annotated[str | None, typer.Argument(help="Run, by name or id.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every run.")] = False,
    only_lost: Annotated[
        bool, typer.Option("--only-lost", help="Leave runs alone that are served.")
    ] = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Load a run's hot state anew from PostgreSQL.

    Samplers do this by themselves when Redis has lost a run. By hand, it ends the run's leases and
    forgets ready groups, whose tasks come round again; statistics stay as they are, as the digest
    shows.
    """
    if (run is None) != every:
        typer.echo("etude: name a run, or say --all", err=True)
        raise typer.Exit(2)
    console = Console(stderr=True, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with EtudeClient(url, api_key=key, timeout_s=_TIMEOUT_S, max_attempts=3) as client:
            runs = _all_runs(client) if run is None else [find_run(client, run)]
            for one in runs:
                now = client.get_run(one.id)
                if only_lost and now.loading is None:
                    typer.echo(f"{now.id}  {now.name}  is served at epoch {now.epoch}", err=as_json)
                    continue
                with Progress(*columns, console=console, transient=True) as bar:
                    done = _watched(client, now, bar)
                if as_json:
                    typer.echo(done.model_dump_json())
                else:
                    typer.echo(f"{now.id}  {now.name}  {told(done)}")
    except EtudeError as error:
        console.print(f"etude: {error}", markup=False)
        raise typer.Exit(2) from error
