"""Options that every command with a sampler behind it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from etude_proto.keys import key_in

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
