"""`etude runs ...` and `etude strategies`: thin over the public API and the table of parts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from etude_proto.v1 import (
    CurriculumConfig,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
)

from .arms_cli import arm_lines
from .cli_options import DEFAULT_URL, AsJson, Key, Url, client_at, fail, find_run
from .curriculum import PRESETS, describe, part_table

runs_app = typer.Typer(help="Create, list, show, pause and resume runs.", no_args_is_help=True)


def show_run(run: Run, as_json: bool) -> None:
    """One line about a run, or all of it."""
    if as_json:
        typer.echo(run.model_dump_json())
        return
    typer.echo(
        f"{run.id}  {run.name}  {run.status}  preset {run.resolved.preset}  "
        f"{run.num_tasks} tasks  version {run.policy_version}"
    )


@runs_app.command("create")
def create(  # noqa: PLR0913, PLR0917 - options of a command, by name
    name: Annotated[str, typer.Argument(help="Name of the run.")],
    dataset: Annotated[str, typer.Option(help="Dataset, by name or id.")],
    preset: Annotated[str, typer.Option(help="Curriculum; see `etude strategies`.")] = "dscl",
    group_size: Annotated[int, typer.Option(help="G, rollouts per task.")] = 8,
    batch_groups: Annotated[int, typer.Option(help="B, groups per training batch.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    curriculum_only: Annotated[
        bool, typer.Option(help="Your framework trains; reports carry no tokens.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="JSON file with the curriculum's parts.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Create a run over a dataset."""
    try:
        text = config.read_text("utf-8") if config else json.dumps({"preset": preset})
        spec = RunCreate(
            name=name,
            dataset_id="ds_0",  # until it is looked up
            curriculum=CurriculumConfig.model_validate_json(text),
            mode=RunMode.CURRICULUM_ONLY if curriculum_only else RunMode.TRAINING,
            group_size=group_size,
            seed=seed,
            limits=RunLimits(training_batch_groups=batch_groups),
        )
    except (OSError, ValidationError) as error:
        raise fail(_told(error)) from error
    with client_at(url, key) as client:
        matching = [one.id for one in client.iter_datasets() if dataset in (one.id, one.name)]
        if not matching:
            raise fail(f"no dataset is called {dataset!r}; see `etude import`")
        run = client.create_run(spec.model_copy(update={"dataset_id": matching[0]}))
        show_run(run, as_json)


def _told(error: OSError | ValidationError) -> str:
    """The first fault, with its field."""
    if isinstance(error, OSError):
        return str(error)
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]


@runs_app.command("list")
def list_(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List runs."""
    with client_at(url, key) as client:
        for run in client.list_runs(limit=1000).items:
            show_run(run, as_json)


@runs_app.command("show")
def show(run: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show a run's curriculum now: mastery, lanes, arms, counts."""
    with client_at(url, key) as client:
        found = find_run(client, run)
        view = client.get_curriculum(found.id)
    if as_json:
        typer.echo(view.model_dump_json())
        return
    show_run(found, as_json=False)
    if view.loading is not None:
        typer.echo(f"not served: Redis is loaded anew, {view.loading.share:.0%} is there")
    table = Table("lane", "share", "waiting", "mastery", "now", "threshold", "weight w")
    mastery = {one.name: one for one in view.subtasks}
    for lane in view.lanes:
        one = mastery.get(lane.name)
        level = "-" if one is None or one.mastery is None else f"{one.mastery:.3f}"
        table.add_row(
            lane.name,
            f"{lane.share:.3f}",
            str(lane.num_waiting),
            level,
            "-" if one is None or one.mastery_now is None else f"{one.mastery_now:.3f}",
            "-" if one is None else f"{one.threshold:.2f}",
            "-" if one is None else f"{one.component_weight:.3f}",
        )
    Console().print(table)
    for arm in view.arms:
        share = "-" if arm.informative_share is None else f"{arm.informative_share:.1%}"
        typer.echo(f"{arm.arm}: {arm.num_groups} groups, {share} informative")
    if view.arms_overall is not None:
        for line in arm_lines("since the beginning, with 95 % intervals", view.arms_overall):
            typer.echo(line)
    if view.arms_recent is not None and view.arms_recent.num_versions < view.policy_version:
        title = f"the newest {view.arms_recent.num_versions} versions"
        for line in arm_lines(title, view.arms_recent):
            typer.echo(line)


@runs_app.command("pause")
def pause(run: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Stop drawing; live leases go on."""
    with client_at(url, key) as client:
        show_run(client.pause_run(find_run(client, run).id), as_json)


@runs_app.command("resume")
def resume(run: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Draw again."""
    with client_at(url, key) as client:
        show_run(client.resume_run(find_run(client, run).id), as_json)


def strategies(as_json: AsJson = False) -> None:
    """List presets and the parts that a run's curriculum may name."""
    found = part_table()
    parts = describe(found)
    if as_json:
        presets = {name: preset.summary for name, preset in PRESETS.items()}
        listed = {"parts": [asdict(part) for part in parts]}
        broken = {"broken": [asdict(part) for part in found.broken]}
        typer.echo(json.dumps({"presets": presets, **listed, **broken}))
        return
    table = Table("preset", "what it does")
    for name, preset in PRESETS.items():
        table.add_row(name, preset.summary)
    Console().print(table)
    table = Table("part", "kind", "what it does", "whose", "reads", "knobs")
    for part in parts:
        knobs = ", ".join(f"{knob.name}={knob.default}" for knob in part.knobs)
        table.add_row(part.name, part.kind, part.summary, part.paper, part.state, knobs)
    Console().print(table)
    for one in found.broken:
        said = f"not usable: {one.entry!r} of package {one.package}: {one.detail}"
        typer.echo(said, err=True)
