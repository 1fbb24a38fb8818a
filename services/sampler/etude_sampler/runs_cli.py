"""`etude runs create | list | show | pause | resume`: thin over the public API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from etude_proto.v1 import (
    CurriculumConfig,
    Run,
    RunCreate,
    RunLimits,
    RunMode,
)

from .arms_cli import arm_lines
from .cli_options import (
    DEFAULT_URL,
    AsJson,
    Key,
    RunName,
    Url,
    as_data,
    client_at,
    fail,
    find_dataset,
    find_run,
    first_fault,
    paper,
    say_json,
)


def show_run(run: Run, as_json: bool) -> None:
    """One line about a run, or all of it."""
    if as_json:
        say_json(run)
        return
    typer.echo(
        f"{run.id}  {run.name}  {run.status}  preset {run.resolved.preset}  "
        f"{run.num_tasks} tasks  version {run.policy_version}"
    )


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
    """Create a run over a dataset.

    Workers and trainers may begin at once. What a config names besides presets is listed by
    `etude strategies`.

    Example: `etude runs create first --dataset mine --preset dscl --group-size 8`
    """
    curriculum = _curriculum(config, preset)
    try:
        spec = RunCreate(
            name=name,
            dataset_id="ds_0",  # until it is looked up
            curriculum=curriculum,
            mode=RunMode.CURRICULUM_ONLY if curriculum_only else RunMode.TRAINING,
            group_size=group_size,
            seed=seed,
            limits=RunLimits(training_batch_groups=batch_groups),
        )
    except ValidationError as error:
        raise fail(first_fault(error)) from error
    with client_at(url, key) as client:
        found = find_dataset(client, dataset)
        show_run(client.create_run(spec.model_copy(update={"dataset_id": found.id})), as_json)


def _curriculum(config: Path | None, preset: str) -> CurriculumConfig:
    """What the file says, or the preset alone.

    Raises:
        CommandFailed: the file cannot be read, or is no curriculum.
    """
    try:
        text = config.read_text("utf-8") if config else json.dumps({"preset": preset})
        return CurriculumConfig.model_validate_json(text)
    except ValidationError as error:
        option = "--config" if config else "--preset"
        raise fail(f"{option}: {first_fault(error)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"--config: {error}") from error


def list_(url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """List runs.

    Example: `etude runs list --json`
    """
    with client_at(url, key) as client:
        found = list(client.iter_runs())
    if as_json:
        say_json({"runs": [as_data(run) for run in found]})
        return
    for run in found:
        show_run(run, as_json=False)


def show(run: RunName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Show a run's curriculum now: mastery, lanes, arms, counts.

    Mastery is what the slots follow, `now` the same without the lag of an average. Live:
    `etude watch`.

    Example: `etude runs show first`
    """
    with client_at(url, key) as client:
        found = find_run(client, run)
        view = client.get_curriculum(found.id)
    if as_json:
        say_json(view)
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
    paper().print(table)
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


def pause(run: RunName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Stop drawing; live leases go on.

    Example: `etude runs pause first`
    """
    with client_at(url, key) as client:
        show_run(client.pause_run(find_run(client, run).id), as_json)


def resume(run: RunName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Draw again.

    Example: `etude runs resume first`
    """
    with client_at(url, key) as client:
        show_run(client.resume_run(find_run(client, run).id), as_json)
