"""`etude replay`: draw a run's batches again and compare; on the database itself, reading only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .cli_options import AsJson, RunName, fail, say_json
from .errors import SamplerError
from .operating import DataDir, find_row, operated
from .service.context import make_context
from .service.replay import Replay, Span
from .service.replay_report import Gap, ReplayReport
from .settings import Settings
from .store.postgres.catalog import PostgresCatalog
from .store.postgres.engine import create_engine
from .store.postgres.history import PostgresHistories, PostgresHistory

_SAID = {
    "same": "same: every batch is what seed, ledger and log make of it",
    "different": "DIFFERENT: see above",
    "unexplained": "UNEXPLAINED: nothing differs, but not everything could be replayed; see above",
}


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error."""
    columns = (
        TextColumn("decisions"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        bar = bars.add_task("decisions")
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def replay(  # noqa: PLR0917 - options of a command, by name
    run: RunName,
    first: Annotated[
        int, typer.Option("--from", min=0, help="Compare decisions from this number on.")
    ] = 0,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Stop after this number.")] = None,
    epoch: Annotated[
        int | None,
        typer.Option(min=1, help="Only this epoch; numbers begin anew in each. Default: all."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Draw a run's batches again, from the decision log, the ledger and the seed, and compare.

    Tasks, lanes, entry numbers, weights and probabilities must be the same to the bit. Names the
    first difference of each epoch and every gap in the log (Redis lost before it was drained), and
    says whether the ledger alone gives the statistics. The run may go on meanwhile; nothing is
    written. Exit code 0: same; 1: different or unexplained; 2: wrong arguments or no database.

    Example: `etude replay first --from 3 --to 6`
    """
    if last is not None and last < first:
        raise fail(f"--to {last} is before --from {first}")
    with operated(data_dir) as settings:
        try:
            with _progress() as tell:
                span = Span(epoch=epoch, first=first, last=last)
                report = asyncio.run(_replay(settings, run, span, tell))
        except SamplerError as error:
            raise fail(str(error)) from error
    if as_json:
        say_json({**asdict(report), "verdict": report.verdict})
    else:
        _show(report)
    if report.verdict != "same":
        raise typer.Exit(1)


async def _replay(
    settings: Settings, run: str, span: Span, tell: Callable[[int, int], None]
) -> ReplayReport:
    assert settings.database_url is not None
    engine = create_engine(
        settings.database_url, pool_size=2, timeout_s=settings.dependency_timeout_s
    )
    try:
        row = await find_row(PostgresCatalog(engine), run)
        async with PostgresHistories(engine).history(row.id) as history:
            await _check(history, row.id, span)
            return await Replay(history, make_context(row), span=span, progress=tell).run()
    finally:
        await engine.dispose()


async def _check(history: PostgresHistory, run_id: str, span: Span) -> None:
    """Refuse a span that holds nothing because it never will have, or does not yet."""
    head = await history.head()
    if span.epoch is not None and span.epoch > head.epoch:
        raise fail(f"run {run_id} has no epoch {span.epoch}; it is at epoch {head.epoch}")
    kept = [one.last for one in await history.epochs() if span.epoch in (None, one.epoch)]
    if kept and span.first > max(kept):
        raise fail(f"--from {span.first} is beyond the last decision, number {max(kept)}")


def _where(gap: Gap) -> str:
    if gap.first is None:
        return f"epoch {gap.epoch}"
    until = "" if gap.last == gap.first else " on" if gap.last is None else f" to {gap.last}"
    return f"epoch {gap.epoch}, number {gap.first}{until}"


def _show(report: ReplayReport) -> None:
    for one in report.epochs:
        typer.echo(
            f"epoch {one.epoch}: {one.num_replayed} of {one.num_logged} decisions replayed, "
            f"{one.num_draws} batches with {one.num_tasks} tasks"
        )
    for gap in report.gaps:
        typer.echo(f"gap: {_where(gap)}: {gap.why}")
    for found in report.differences:
        where = f"epoch {found.epoch}, number {found.number}, {found.kind}"
        typer.echo(f"different: {where}: {found.what}")
    for named, num in (
        (len(report.gaps), report.num_gaps),
        (len(report.differences), report.num_differences),
    ):
        if num > named:
            typer.echo(f"... and {num - named} more")
    told = report.ledger
    statistics, mastery = (
        "yes" if good else "no" for good in (told.explains_statistics, told.explains_mastery)
    )
    typer.echo(
        f"ledger explains statistics: {statistics} ({told.num_groups} groups, "
        f"digest {told.digest[:16] or '-'}, stored {told.stored_digest[:16] or '-'})"
    )
    typer.echo(f"ledger explains mastery: {mastery} (version {told.num_versions})")
    if told.first_fault is not None:
        typer.echo(f"ledger: {told.first_fault}; {told.num_faults} in all")
    typer.echo(_SAID[report.verdict])
