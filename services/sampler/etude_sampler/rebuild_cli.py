"""`etude rebuild`: load the hot state of runs anew from PostgreSQL, over the public API."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from etude_client import EtudeClient
from etude_proto.v1 import Rebuild, RebuildReason, Run

from .cli_options import (
    DEFAULT_URL,
    AsJson,
    Key,
    Url,
    as_data,
    client_at,
    fail,
    find_run,
    say_json,
)

_TIMEOUT_S = 600.0
_LOOK_S = 0.25
FOUND = {
    RebuildReason.CREATED: "was new",
    RebuildReason.MISSING: "was not in Redis, or only as another server's copy",
    RebuildReason.EPOCH: "was in Redis at another epoch",
    RebuildReason.REWOUND: "was in Redis as an older copy of itself",
    RebuildReason.ASKED: "was rebuilt as asked",
}


def _words(rebuild: Rebuild) -> str:
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

    Example: `etude rebuild --all --only-lost`
    """
    if (run is None) != every:
        raise fail("name a run, or say --all")
    told: list[dict[str, object]] = []
    with client_at(url, key, timeout_s=_TIMEOUT_S) as client:
        for one in list(client.iter_runs()) if run is None else [find_run(client, run)]:
            now = client.get_run(one.id)
            if only_lost and now.loading is None:
                typer.echo(f"{now.id}  {now.name}  is served at epoch {now.epoch}", err=as_json)
                continue
            with _bar() as bar:
                done = _watched(client, now, bar)
            told.append(as_data(done))
            if not as_json:
                typer.echo(f"{now.id}  {now.name}  {_words(done)}")
    if as_json:
        say_json({"rebuilds": told})


def _bar() -> Progress:
    """On standard error; plain logs get no escape codes."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True, soft_wrap=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
