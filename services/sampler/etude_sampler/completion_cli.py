"""`etude completion SHELL`: the few lines by which a shell asks `etude` how to go on."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from .cli_options import AsJson

PROGRAM, VARIABLE = "etude", "_ETUDE_COMPLETE"


class Shell(StrEnum):
    """Shells that can ask."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="Your shell.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print what makes a shell complete `etude`.

    For bash put `source <(etude completion bash)` into ~/.bashrc, for zsh the same with zsh into
    ~/.zshrc after compinit, for fish write it to ~/.config/fish/completions/etude.fish. Commands,
    options, their choices and the names of runs (of ETUDE_SAMPLER_URL) are completed.

    Example: `etude completion bash`
    """
    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value)
    typer.echo(json.dumps({"shell": shell, "script": script}) if as_json else script)
