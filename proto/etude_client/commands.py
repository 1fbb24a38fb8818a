"""How every command says that it could not do what was asked: one line, or one JSON object.

The programs of all services end through `ended`: `etude-rollout` and `etude-trainer` are
`Program`s, `etude` calls it where it loads its commands. Needs Typer, which the services have; the
clients work without it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import partial

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from .errors import ApiError, Unreachable

JSON = "--json"
_SUGGESTED = re.compile(r"\s*(?:\(Possible options: (.+)\)|\. Did you mean (.+)\?)$")


class CommandFailed(TyperException):
    """A command that cannot go on; ends the program with one line and an exit code.

    Raised from a client's error, its problem document is part of what `--json` says.
    """

    def __init__(self, reason: str, exit_code: int = 2) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Program(TyperGroup):
    """A program's root: what goes wrong is said by `ended`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: object,
    ) -> object:
        """Run a command and end the process, as Typer does."""
        words = sys.argv[1:] if args is None else list(args)
        run = partial(
            super().main, words, prog_name, complete_var, False, windows_expand_args, **extra
        )
        if not standalone_mode:
            return run()
        try:
            code = run()
        except (TyperException, typer.Abort) as error:
            code = ended(error, self.name or prog_name or "", words)
        sys.exit(code)


def ended(error: TyperException | typer.Abort, program: str, words: Sequence[str]) -> int:
    """Say on standard error why a program ends; returns its exit code.

    Args:
        program: its name.
        words: its arguments; with `--json` among them a JSON object is said, on one line.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        return 2  # the help was printed: nobody asked for anything else
    document = told(error, program)
    text = f"{document['command']}: {document['detail']}"
    if "help" in document:
        text += f"; see {document['help']}"
    typer.echo(json.dumps(document) if asks_json(words) else text, err=True)
    code = document["exit_code"]
    assert isinstance(code, int)
    return code


def asks_json(words: Sequence[str]) -> bool:
    """Whether a script reads the answer."""
    return JSON in words[: words.index("--")] if "--" in words else JSON in words


def told(error: TyperException | typer.Abort, program: str) -> dict[str, object]:
    """A failure as a problem document (RFC 9457).

    `code` is that of the sampler if it refused, `unreachable` if it did not answer, `usage` for
    wrong arguments, else `failed`; `command` is what was called, `exit_code` what it ends with.
    """
    document: dict[str, object] = {"type": "about:blank", "title": "not done", "code": "failed"}
    if isinstance(error, typer.Abort):
        return {**document, "detail": "aborted", "command": program, "exit_code": 1}
    document |= {"detail": _one_line(error), "command": program}
    document["exit_code"] = error.exit_code
    cause = error.__cause__
    if isinstance(cause, ApiError):
        document |= cause.problem.model_dump(mode="json", exclude={"detail"})
    elif isinstance(cause, Unreachable):
        document["code"] = "unreachable"
    if not isinstance(error, CommandFailed):
        where = getattr(getattr(error, "ctx", None), "command_path", program)
        asked = {"title": "wrong arguments", "code": "usage", "command": where}
        document |= {**asked, "help": f"{where} --help"}
    return document


def _one_line(error: TyperException) -> str:
    """Its words on one line, with what was meant in parentheses."""
    said = " ".join(error.format_message().split()).removesuffix(".").replace("Value error, ", "")
    meant = _SUGGESTED.search(said)
    if meant is not None:
        near = " or ".join((meant[1] or meant[2]).split(", "))
        said = f"{said[: meant.start()]} (did you mean {near}?)"
    return said if isinstance(error, CommandFailed) else said[:1].lower() + said[1:]
