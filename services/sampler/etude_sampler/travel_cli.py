"""`etude runs checkpoints | checkpoint | restore | fork`: thin over the public API.

Neighbours: `diff_cli` and `compare_cli` say what became of forks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from pydantic import ValidationError
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

from .cli_options import (
    DEFAULT_URL,
    AsJson,
    Key,
    RunName,
    Url,
    as_data,
    client_at,
    fail,
    find_run,
    first_fault,
    paper,
    say_json,
)
from .nearest import unknown
from .runs_cli import show_run


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


def _no_checkpoint(run: str, name: str, found: Iterable[Checkpoint]) -> str:
    """What to say where none has the name: its labels and versions."""
    names = [word for one in found for word in (one.label, f"v{one.policy_version}") if word]
    return f"run {run!r}: {unknown('checkpoint', name, names)}"


def checkpoints(
    run: RunName, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False
) -> None:
    """List a run's curriculum checkpoints.

    Example: `etude runs checkpoints first`
    """
    with client_at(url, key) as client:
        found = _all(client, find_run(client, run).id)
    if as_json:
        say_json({"checkpoints": [as_data(one) for one in found]})
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
    paper().print(table)


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
    """Take a curriculum checkpoint of a run as it is now.

    Each acked training batch takes one by itself; this is for moments of your own.

    Example: `etude runs checkpoint first --label before-the-change --pin`
    """
    try:
        body = CheckpointCreate(label=label, pinned=pin, policy_version=version)
    except ValidationError as error:
        raise fail(first_fault(error, names={"label": "--label"})) from error
    with client_at(url, key) as client:
        taken = client.create_checkpoint(find_run(client, run).id, body)
    if as_json:
        say_json(taken)
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
    """Take a run back to a checkpoint; what came after it counts no more.

    Leases and ready groups of what is discarded are over; the ledger keeps its rows.

    Example: `etude runs restore first v12`
    """
    with client_at(url, key) as client:
        found = find_run(client, run)
        target = pick(_all(client, found.id), checkpoint)
        if target is None:
            raise fail(
                f"run {found.name!r} has no checkpoint {checkpoint!r} that can be restored; see "
                f"`etude runs checkpoints {run}`"
            )
        done = client.restore_run(found.id, RestoreRequest(checkpoint_id=target.id))
    if as_json:
        say_json(done)
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
    """Begin another run from a checkpoint; what is not given stays the same.

    Example: `etude runs fork first uniform --checkpoint v12 --preset uniform`
    """
    with client_at(url, key) as client:
        source = find_run(client, run)
        chosen: str | None = None
        if checkpoint is not None:
            found = _all(client, source.id)
            target = pick(found, checkpoint, discarded=True)
            if target is None:
                raise fail(_no_checkpoint(source.name, checkpoint, found))
            chosen = target.id
        try:
            body = ForkRequest(
                name=name,
                checkpoint_id=chosen,
                seed=seed,
                curriculum=None if preset is None else CurriculumConfig(preset=preset),
            )
        except ValidationError as error:
            raise fail(first_fault(error)) from error
        show_run(client.fork_run(source.id, body), as_json)
