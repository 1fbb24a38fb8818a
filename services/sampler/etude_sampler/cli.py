"""The `etude` command: its commands by name, each imported when it is called.

Bad settings or arguments: one line and exit code 2. `--json` prints what scripts read.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from . import __version__
from .lazy_commands import Commands

EXIT_CODES = (
    "Exit codes: 0 done; 1 done, and what was looked for is not as it should be (doctor, replay, "
    "import with refused rows), or a server ended by itself; 2 not done, said in one line."
)
app = typer.Typer(
    name="etude",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"etude {__version__}")
        raise typer.Exit


@app.callback(epilog=EXIT_CODES)
def etude(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say it and end."),
    ] = False,
) -> None:
    """Etude decides what a tool-using LLM practises next.

    First steps: `etude serve`; in another terminal `etude import jsonl FILE --dataset mine`,
    `etude runs create first --dataset mine`, `etude watch first`.
    """


def main() -> None:
    """Entry point of the `etude` command."""
    gc.set_threshold(50_000, 20, 50)  # imports leave no garbage: a tenth of a start went into it
    app()
