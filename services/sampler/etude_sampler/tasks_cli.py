"""`etude tasks list | show`: the run's tasks and why one has its weight, over the public API."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer
from rich.table import Column, Table

from etude_client.operations import TaskOrder
from etude_proto.v1 import LedgerEntry, TaskStatistics, TaskSummary, TaskView

from .cli_options import (
    DEFAULT_URL,
    AsJson,
    Key,
    RunName,
    Url,
    as_data,
    client_at,
    find_run,
    paper,
    say_json,
)

_LONGEST_TEXT = 200


def list_(  # noqa: PLR0917 - options of a command, by name
    run: RunName,
    order: Annotated[TaskOrder, typer.Option(help="Which come first.")] = "ordinal",
    subtask: Annotated[str | None, typer.Option(help="Only tasks that exercise it.")] = None,
    source: Annotated[str | None, typer.Option(help="Only tasks of this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List tasks of a run with their statistics.

    Statistics are of rollouts without help. Tasks that were never rolled out have none; order
    `unseen` begins with them.

    Example: `etude tasks list first --order hardest --subtask format --limit 10`
    """
    with client_at(url, key) as client:
        found = find_run(client, run)
        listed = client.iter_tasks(found.id, order=order, subtask=subtask, source=source)
        tasks = list(islice(listed, limit))
    if as_json:
        say_json({"run_id": found.id, "tasks": [as_data(task) for task in tasks]})
        return
    table = Table(
        *(Column("task", no_wrap=True), "ordinal", "source", "sub-tasks", "groups", "success"),
        *("reward", "components", "version"),
    )
    for task in tasks:
        table.add_row(*_row(task))
    paper().print(table)


def _row(task: TaskSummary) -> list[str]:
    known = task.statistics
    heads = [task.id, str(task.ordinal), task.source, ", ".join(task.subtasks)]
    if known is None:
        return [*heads, "0", "-", "-", "-", "-"]
    return [
        *heads,
        str(known.num_groups),
        f"{known.success_ema:.2f}",
        f"{known.reward_mean:.2f}",
        _components(known.component_means),
        str(known.last_policy_version),
    ]


def _components(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


def show(
    run: RunName,
    task: Annotated[
        str, typer.Argument(help="`task_...`, see `etude tasks list`.", show_default=False)
    ],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show one task: why it has its weight, and its groups.

    A weight is what the task counts in a lane against the others there; its explanation has the
    terms that add up to it.

    Example: `etude tasks show first task_0123456789abcdef01234567`
    """
    with client_at(url, key) as client:
        found = client.get_task(find_run(client, run).id, task)
    if as_json:
        say_json(found)
        return
    _show_head(found)
    if found.weights:
        table = Table(Column("lane", no_wrap=True), "weight", "in the lane", "why")
        for one in found.weights:
            weight = f"{one.weight:.4f}"
            table.add_row(one.lane, weight, "yes" if one.in_lane else "no", one.explanation)
        paper().print(table)
    for statistics in found.statistics:
        typer.echo(_statistics_line(statistics))
    if found.recent:
        paper().print(_groups(found.recent))


def _show_head(found: TaskView) -> None:
    task = found.task
    typer.echo(
        f"{task.id}  {found.state}  source {task.source}  sub-tasks {', '.join(task.subtasks)}"
    )
    last = task.messages[-1] if task.messages else None
    if last is not None and last.content:
        text = " ".join(last.content.split())
        cut = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
        typer.echo(f"{last.role}: {cut}")
    for what, words in (("hard", found.hard), ("rollouts", found.budget), ("pool", found.pool)):
        if words is not None:
            typer.echo(f"{what}: {words}")
    if found.prediction is not None:
        typer.echo(f"predicted success: {found.prediction:.3f}")


def _statistics_line(one: TaskStatistics) -> str:
    kind = one.scaffold_kind if one.scaffold_level else "no help"
    level = f", level {one.scaffold_level}" if one.scaffold_level else ""
    return (
        f"{kind}{level}: {one.num_groups} groups, success {one.success_ema:.2f}, "
        f"reward {one.reward_mean:.2f} (variance {one.reward_variance:.3f}), "
        f"{_components(one.component_means)}"
    )


def _groups(entries: list[LedgerEntry]) -> Table:
    table = Table("group", "version", "lane", "scaffold", "verdict", "rewards", "successes")
    table.add_column("when")
    for one in entries:
        scaffold = f"{one.scaffold_kind} {one.scaffold_level}" if one.scaffold_level else "-"
        table.add_row(
            str(one.apply_seq),
            str(one.policy_version),
            one.lane,
            scaffold,
            one.verdict,
            " ".join(f"{reward:.2g}" for reward in one.rewards),
            f"{sum(one.successes)} of {len(one.successes)}",
            one.created_at[:19].replace("T", " "),
        )
    return table
