"""`etude runs checkpoints | checkpoint | restore | fork`: thin over the public API.

Mounted beside the other `runs` commands by `cli`, with `etude runs diff` of `diff_cli` and
`etude runs compare` of `compare_cli`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from etude_client import EtudeClient
from etude_client.paging import all_items
from etude_proto.v1 import (
    MAX_PAGE,
    Checkpoint,
    CheckpointCreate,
    CurriculumConfig,
    ForkRequest,
    RestoreRequest,
)

from .cli_options import DEFAULT_URL, AsJson, Key, Url, client_at, find_run
from .compare_cli import compare_runs
from .diff_cli import diff
from .runs_cli import show_run

RunName = Annotated[str, typer.Argument(help="Name or id of the run.", show_default=False)]


def register(runs_app: typer.Typer) -> None:
    """Add the commands to `etude runs`."""
    for name, command in (
        ("checkpoints", checkpoints),
        ("checkpoint", checkpoint),
        ("restore", restore),
        ("fork", fork),
        ("diff", diff),
        ("compare", compare_runs),
    ):
        runs_app.command(name)(command)


def _complain(message: str) -> typer.Exit:
    typer.echo(f"etude: {message}", err=True)
    return typer.Exit(2)


def _all(client: EtudeClient, run_id: str) -> list[Checkpoint]:
    return list(all_items(lambda at: client.list_checkpoints(run_id, limit=MAX_PAGE, cursor=at)))


def pick(found: Iterable[Checkpoint], name: str, *, discarded: bool = False) -> Checkpoint | None:
    """A checkpoint by id, by label, or the newest of a version (`v12`, `12`)."""
    usable = [one for one in found if discarded or one.discarded_at is None]
    named = [one for one in usable if name in (one.id, one.label)]
    version = name.removeprefix("v")
    if not named and version.isdecimal():
        named = [one for one in usable if one.policy_version == int(version)]
    return named[-1] if named else None


def checkpoints(
    run: RunName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """List a run's curriculum checkpoints."""
    with client_at(url, key) as client:
        found = _all(client, find_run(client, run).id)
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found]))
        return
    table = Table(
        *(Column("checkpoint", no_wrap=True), Column("version"), Column("label"), Column("pinned")),
        *(Column("tasks"), Column("KiB"), Column("taken"), Column("")),
    )
    for one in found:
        table.add_row(
            one.id,
            str(one.policy_version),
            one.label or "",
            "yes" if one.pinned else "",
            str(one.num_task_statistics),
            f"{one.num_bytes / 1024:.1f}",
            one.created_at[:19].replace("T", " "),
            "" if one.discarded_at is None else "discarded",
        )
    Console().print(table)


def checkpoint(  # noqa: PLR0917 - options of a command, by name
    run: RunName,
    label: Annotated[str | None, typer.Option(help="How to find it again.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Never dropped by retention.")] = False,
    version: Annotated[
        int | None, typer.Option(min=0, help="Refuse if the run is at another version.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Take a curriculum checkpoint of a run as it is now."""
    try:
        body = CheckpointCreate(label=label, pinned=pin, policy_version=version)
    except ValidationError as error:
        raise _complain(f"--label: {error.errors()[0]['msg']}") from error
    with client_at(url, key) as client:
        taken = client.create_checkpoint(find_run(client, run).id, body)
    if as_json:
        typer.echo(taken.model_dump_json())
        return
    typer.echo(
        f"{taken.id}  version {taken.policy_version}  statistics of "
        f"{taken.num_task_statistics} tasks  {taken.num_bytes / 1024:.1f} KiB"
    )


def restore(
    run: RunName,
    checkpoint: Annotated[
        str, typer.Argument(help="Id, label or version of a checkpoint.", show_default=False)
    ],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Take a run back to a checkpoint; what came after it counts no more."""
    with client_at(url, key) as client:
        found = find_run(client, run)
        target = pick(_all(client, found.id), checkpoint)
        if target is None:
            raise _complain(
                f"run {found.name!r} has no checkpoint {checkpoint!r} that can be restored; see "
                f"`etude runs checkpoints {run}`"
            )
        done = client.restore_run(found.id, RestoreRequest(checkpoint_id=target.id))
    if as_json:
        typer.echo(done.model_dump_json())
        return
    typer.echo(
        f"{found.name} went from version {done.from_version} back to {done.policy_version}; "
        f"{done.num_groups_discarded} groups count no more (kept in the ledger)"
    )


def fork(  # noqa: PLR0917 - options of a command, by name
    run: RunName,
    name: Annotated[str, typer.Argument(help="Name of the new run.", show_default=False)],
    checkpoint: Annotated[
        str | None, typer.Option(help="Id, label or version of a checkpoint [taken now].")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed.")] = None,
    preset: Annotated[str | None, typer.Option(help="Another curriculum.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Begin another run from a checkpoint; what is not given stays the same."""
    with client_at(url, key) as client:
        source = find_run(client, run)
        chosen: str | None = None
        if checkpoint is not None:
            target = pick(_all(client, source.id), checkpoint, discarded=True)
            if target is None:
                raise _complain(f"run {source.name!r} has no checkpoint {checkpoint!r}")
            chosen = target.id
        try:
            body = ForkRequest(
                name=name,
                checkpoint_id=chosen,
                seed=seed,
                curriculum=None if preset is None else CurriculumConfig(preset=preset),
            )
        except ValidationError as error:
            fault = error.errors()[0]
            raise _complain(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
        show_run(client.fork_run(source.id, body), as_json)
