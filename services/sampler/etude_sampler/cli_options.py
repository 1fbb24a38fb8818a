"""What every command with a sampler behind it shares: options, a client, a run by its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from etude_client import EtudeClient, EtudeError
from etude_proto.keys import key_in
from etude_proto.v1 import Run

DEFAULT_URL = "http://127.0.0.1:8321"


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


Url = Annotated[str, typer.Option(envvar="ETUDE_SAMPLER_URL", help="The sampler's address.")]
Key = Annotated[
    str | None,
    typer.Option(
        envvar="ETUDE_API_KEY",
        callback=_or_from_its_file,
        help="Bearer key, if the sampler asks for one; or its file, as ETUDE_API_KEY_FILE.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@contextmanager
def client_at(url: str, key: str | None) -> Iterator[EtudeClient]:
    """A client; what goes wrong ends the command with one line and exit code 2."""
    try:
        made = EtudeClient(url, api_key=key, max_attempts=3)
    except ValueError as error:
        raise fail(str(error)) from error
    try:
        with made as client:
            yield client
    except EtudeError as error:
        raise fail(str(error)) from error


def fail(reason: str) -> typer.Exit:
    """One line to standard error, exit code 2."""
    Console(stderr=True, soft_wrap=True).print(f"etude: {reason}", markup=False)
    return typer.Exit(2)


def find_run(client: EtudeClient, name_or_id: str) -> Run:
    """A run by id, or the only one of that name.

    Raises:
        typer.Exit: there is none, or there are several (exit code 2).
    """
    if name_or_id.startswith("run_"):
        return client.get_run(name_or_id)
    cursor, found = None, []
    while True:
        page = client.list_runs(limit=1000, cursor=cursor)
        found += [run for run in page.items if run.name == name_or_id]
        cursor = page.next_cursor
        if cursor is None:
            break
    if not found:
        raise fail(f"no run is called {name_or_id!r}")
    if len(found) > 1:
        ids = ", ".join(run.id for run in found)
        raise fail(f"{len(found)} runs are called {name_or_id!r}: {ids}; give an id")
    return found[0]
