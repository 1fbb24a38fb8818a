"""What commands share: options, a client, things by their name, how results and faults are said."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from etude_client import EtudeClient, EtudeError
from etude_client.commands import CommandFailed
from etude_client.errors import Unauthorized, Unreachable
from etude_proto.keys import key_in
from etude_proto.v1 import MAX_PAGE, Dataset, Run

from .nearest import unknown

DEFAULT_URL = "http://127.0.0.1:8321"
WIDTH = 160
"""Columns of a table that is not read on a terminal."""
_TAB_S = 1.0
"""Longest that a shell's completion waits for a sampler."""


def _or_from_its_file(given: str | None) -> str | None:
    """The key that was given, or the one in `ETUDE_API_KEY_FILE`.

    Raises:
        typer.BadParameter: the file does not hold one key (exit code 2).
    """
    file = os.environ.get("ETUDE_API_KEY_FILE")
    if given or not file:
        return given or None
    try:
        return key_in(Path(file))
    except ValueError as error:
        raise typer.BadParameter(f"ETUDE_API_KEY_FILE: {error}") from error


def _run_names(incomplete: str) -> list[str]:
    """Runs whose name begins so, for a shell's completion; none if the sampler cannot be asked."""
    try:
        key = _or_from_its_file(os.environ.get("ETUDE_API_KEY"))
        url = os.environ.get("ETUDE_SAMPLER_URL") or DEFAULT_URL
        with EtudeClient(url, api_key=key, timeout_s=_TAB_S, max_attempts=1) as client:
            names = {run.name for run in client.list_runs(limit=MAX_PAGE).items}
    except (EtudeError, ValueError, typer.BadParameter):
        return []
    return sorted(name for name in names if name.startswith(incomplete) and " " not in name)


Url = Annotated[str, typer.Option(envvar="ETUDE_SAMPLER_URL", help="The sampler's address.")]
Key = Annotated[
    str | None,
    typer.Option(
        envvar="ETUDE_API_KEY",
        callback=_or_from_its_file,
        help="Bearer key, if the sampler asks for one; or its file, as ETUDE_API_KEY_FILE.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")]
RunName = Annotated[
    str,
    typer.Argument(help="Name or id of the run.", show_default=False, autocompletion=_run_names),
]


def say(message: str) -> None:
    """Print one line for people, on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(message, markup=False)


def fail(reason: str) -> CommandFailed:
    """Ends the command: one line to standard error (a JSON object with `--json`), exit code 2."""
    return CommandFailed(reason)


def first_fault(error: ValidationError, *, names: Mapping[str, str] | None = None) -> str:
    """The first thing that is wrong with what was given, with its field.

    `names` are options by field, where they are called otherwise.
    """
    fault = error.errors(include_url=False)[0]
    field = ".".join(map(str, fault["loc"]))
    field = (names or {}).get(field.split(".")[0], field)
    return f"{field}: {fault['msg']}" if field else fault["msg"]


def say_json(document: BaseModel | Mapping[str, object]) -> None:
    """One JSON object on standard output."""
    text = document.model_dump_json() if isinstance(document, BaseModel) else json.dumps(document)
    typer.echo(text)


def as_data(model: BaseModel) -> dict[str, object]:
    """A model as `say_json` takes it within a larger object."""
    data = model.model_dump(mode="json")
    assert isinstance(data, dict)
    return data


def paper() -> Console:
    """Where tables go; wide enough for whole words where it is not a terminal."""
    free = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if free else WIDTH)


@contextmanager
def client_at(url: str, key: str | None, *, timeout_s: float = 60.0) -> Iterator[EtudeClient]:
    """A client; what goes wrong ends the command with one line and exit code 2."""
    try:
        made = EtudeClient(url, api_key=key, timeout_s=timeout_s, max_attempts=3)
    except ValueError as error:
        raise fail(str(error)) from error
    try:
        with made as client:
            yield client
    except EtudeError as error:
        raise fail(reason_of(error, url)) from error


def reason_of(error: EtudeError, url: str) -> str:
    """What went wrong, and what to do about it where that is known."""
    if isinstance(error, Unreachable):
        where = "another address: --url or ETUDE_SAMPLER_URL"
        return f"no answer from {url}; is `etude serve` running there? ({where}) {error}"
    if isinstance(error, Unauthorized):
        return f"{error}; give a key: --key, ETUDE_API_KEY or ETUDE_API_KEY_FILE"
    return str(error)


def find_run(client: EtudeClient, name_or_id: str) -> Run:
    """A run by id, or the only one of that name.

    Raises:
        CommandFailed: there is none, or there are several (exit code 2).
    """
    if name_or_id.startswith("run_"):
        return client.get_run(name_or_id)
    runs = list(client.iter_runs())
    found = [run for run in runs if run.name == name_or_id]
    if not found:
        names = (run.name for run in runs)
        none = "there is none yet, see `etude runs create --help`"
        raise fail(unknown("run", name_or_id, names, otherwise=none))
    if len(found) > 1:
        ids = ", ".join(run.id for run in found)
        raise fail(f"{len(found)} runs are called {name_or_id!r}: {ids}; give an id")
    return found[0]


def find_dataset(client: EtudeClient, name_or_id: str) -> Dataset:
    """A dataset by id or name.

    Raises:
        CommandFailed: there is none (exit code 2).
    """
    if name_or_id.startswith("ds_"):
        return client.get_dataset(name_or_id)
    datasets = list(client.iter_datasets())
    for one in datasets:
        if one.name == name_or_id:
            return one
    names = (one.name for one in datasets)
    none = "there is none yet, see `etude import --help`"
    raise fail(unknown("dataset", name_or_id, names, otherwise=none))
