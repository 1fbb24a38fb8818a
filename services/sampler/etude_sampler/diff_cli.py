"""`etude runs diff`: fetches two runs over the public API and says where they went apart.

`runs_diff` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from etude_client import EtudeClient, RunNotFound
from etude_client.paging import all_items
from etude_proto.v1 import MAX_PAGE, Draw, Run

from .cli_options import DEFAULT_URL, AsJson, Key, Url, client_at, find_run, paper, say_json
from .runs_diff import (
    Common,
    Difference,
    common_moment,
    compare_draws,
    compare_tasks,
    compare_versions,
    config_differences,
)

T = TypeVar("T")
_SHOWN_VERSIONS = 20
_SHOWN_TASKS = 10


def diff(  # noqa: PLR0917 - options of a command, by name
    first: Annotated[str, typer.Argument(help="A run, name or id.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another run.", show_default=False)],
    tasks: Annotated[
        int, typer.Option(min=1, max=1000, help="Tasks to show, those that differ most.")
    ] = _SHOWN_TASKS,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say where two runs went apart: settings, draws, versions, tasks.

    Example: `etude runs diff first uniform`
    """
    with client_at(url, key) as client:
        one, other = find_run(client, first), find_run(client, second)
        found = compare(client, one, other, most=tasks)
    if as_json:
        say_json(found.to_json())
        return
    _print(found)


def run_if_there(client: EtudeClient) -> Callable[[str], Run | None]:
    """Reads runs by id; None for one that was deleted."""

    def get(run_id: str) -> Run | None:
        try:
            return client.get_run(run_id)
        except RunNotFound:
            return None

    return get


def compare(client: EtudeClient, one: Run, other: Run, *, most: int) -> Difference:
    """Fetch both runs and compare them; progress goes to standard error."""
    common = common_moment(one, other, get=run_if_there(client))
    found = Difference(
        f"{one.name} ({one.id})",
        f"{other.name} ({other.id})",
        config_differences(one, other),
        common,
    )
    after = 0 if common is None else common.policy_version
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        found.num_draws, found.apart = compare_draws(
            _counted(bars, "draws", _draws(client, one, common)), _draws(client, other, common)
        )
        found.versions = compare_versions(
            client.iter_history(one.id), client.iter_history(other.id), after=after
        )
        found.num_tasks, found.num_tasks_differing, found.tasks = compare_tasks(
            _counted(bars, "tasks", client.iter_tasks(one.id), total=one.num_tasks),
            client.iter_tasks(other.id),
            most=most,
        )
    return found


def _draws(client: EtudeClient, run: Run, common: Common | None) -> Iterator[Draw]:
    """Draws since the common moment: a fork's own begin there."""
    own = all_items(lambda at: client.list_draws(run.id, limit=MAX_PAGE, cursor=at))
    if common is None or common.run_id != run.id:
        return own
    return (draw for draw in own if draw.policy_version >= common.policy_version)


def _counted(
    bars: Progress, what: str, items: Iterable[T], *, total: int | None = None
) -> Iterator[T]:
    bar = bars.add_task(what, total=total)
    for item in items:
        bars.advance(bar)
        yield item


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _print(found: Difference) -> None:
    typer.echo(found.verdict())
    typer.echo(f"first   {found.first}\nsecond  {found.second}")
    if found.common is None:
        typer.echo("they have no checkpoint in common")
    else:
        where = found.common.checkpoint_id or "the same run"
        typer.echo(
            f"common  version {found.common.policy_version} of {found.common.run_id} ({where})"
        )
    for name, (ours, theirs) in found.config.items():
        typer.echo(f"config  {name}: {ours} | {theirs}")
    if found.apart is not None:
        typer.echo(f"draw {found.apart.number}, first   {'; '.join(found.apart.first or [])}")
        typer.echo(f"draw {found.apart.number}, second  {'; '.join(found.apart.second or [])}")
    _print_versions(found)
    _print_tasks(found)


def _print_versions(found: Difference) -> None:
    differing = [pair for pair in found.versions if pair.differs]
    if not differing:
        return
    table = Table("version", "what", "first", "second")
    for pair in differing[:_SHOWN_VERSIONS]:
        for name in {**pair.first, **pair.second}:
            ours, theirs = pair.first.get(name), pair.second.get(name)
            if ours != theirs:
                table.add_row(str(pair.policy_version), name, _number(ours), _number(theirs))
    paper().print(table)
    if len(differing) > _SHOWN_VERSIONS:
        typer.echo(f"... and {len(differing) - _SHOWN_VERSIONS} more versions (--json has all)")


def _print_tasks(found: Difference) -> None:
    if not found.tasks:
        return
    table = Table(Column("task", no_wrap=True), "ordinal", "groups", "groups", "success", "success")
    for task in found.tasks:
        table.add_row(
            task.task_id,
            str(task.ordinal),
            str(task.first_groups),
            str(task.second_groups),
            _number(task.first_success),
            _number(task.second_success),
        )
    paper().print(table)
