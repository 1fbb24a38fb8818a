"""`etude runs compare`: did one of two runs learn more from as many rollouts.

Fetches over the public API; `runs_compare` compares.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from etude_client import EtudeClient
from etude_proto.v1 import Run

from .arms_cli import NAMES, SHARES, shown
from .cli_options import DEFAULT_URL, AsJson, Key, Url, client_at, find_run, paper, say_json
from .diff_cli import run_if_there
from .runs_compare import MEASURES, Comparison, curve_of, pairs_of
from .runs_diff import common_moment
from .statistics.arms import Interval

NOTE = (
    "Intervals cover the choice of tasks and rollouts, not the luck of one training: "
    "repeat with other seeds."
)


def compare_runs(
    first: Annotated[str, typer.Argument(help="A run, name or id.", show_default=False)],
    second: Annotated[str, typer.Argument(help="The run to judge.", show_default=False)],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say whether the second run is better than the first, from as many rollouts.

    Two forks of one checkpoint answer whether a curriculum helps. The verdict rests on the control
    arms: their tasks are drawn uniformly in both runs. With few control groups it rests on the
    tasks that both served. Exit code 0 whatever the verdict.

    Example: `etude runs compare first uniform`
    """
    with client_at(url, key) as client:
        found = compare(client, find_run(client, first), find_run(client, second))
    if as_json:
        say_json(found.to_json())
        return
    _print(found)


def compare(client: EtudeClient, one: Run, other: Run) -> Comparison:
    """Fetch both runs and compare them; progress goes to standard error."""
    common = common_moment(one, other, get=run_if_there(client))
    after = 0 if common is None else common.policy_version
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        curves = [curve_of(client.iter_history(run.id), after=after) for run in (one, other)]
        tasks = client.iter_tasks(one.id)
        pairs = pairs_of(
            bars.track(tasks, total=one.num_tasks, description="tasks"),
            client.iter_tasks(other.id),
            after=after,
        )
    return Comparison(one.name, other.name, common, curves[0], curves[1], pairs)


def _print(found: Comparison) -> None:
    typer.echo(found.line())
    if found.common is None:
        typer.echo("no common ancestor: compared from their beginnings")
    else:
        common = found.common
        where = "" if common.checkpoint_id is None else f", checkpoint {common.checkpoint_id}"
        typer.echo(f"common: {common.run_id} at version {common.policy_version}{where}")
    for name, curve in ((found.first, found.first_curve), (found.second, found.second_curve)):
        last = curve[-1].end if curve else 0.0
        typer.echo(f"{name}: {len(curve)} versions since, {last:,.0f} rollouts")
    console = paper()
    console.print(_bins(found))
    console.print(_gaps(found))
    pairs = found.pairs
    typer.echo(
        f"tasks both served since: {pairs.num_tasks}, higher in {found.second} "
        f"{pairs.num_better}, lower {pairs.num_worse}, mean difference of success "
        f"{shown(pairs.difference, share=False, signed=True)}"
    )
    typer.echo(NOTE)


def _bins(found: Comparison) -> Table:
    table = Table(
        "rollouts", "versions", "control success", "informative", "reward", title="both runs"
    )
    for one in found.bins():
        versions = " | ".join(
            f"{part[0]}-{part[-1]}" for part in (one.first_versions, one.second_versions)
        )
        table.add_row(
            f"{one.begin:,.0f}-{one.end:,.0f}",
            versions,
            _two(one.control_success, share=True),
            _two(one.informative_share, share=True),
            _two(one.mean_reward, share=False),
        )
    return table


def _two(pair: tuple[Interval, Interval], *, share: bool) -> str:
    form = "{:.1%}" if share else "{:.3f}"
    return " | ".join("-" if one.mean is None else form.format(one.mean) for one in pair)


def _gaps(found: Comparison) -> Table:
    table = Table(
        "difference", "control arm", "last quarter", "all groups", title="second less first"
    )
    whole, late = found.gaps(), found.gaps(last=0.25)
    for name in MEASURES:
        cells = (whole[f"control.{name}"], late[f"control.{name}"], whole[f"all.{name}"])
        table.add_row(
            NAMES[name], *(shown(one, share=name in SHARES, signed=True) for one in cells)
        )
    return table
