"""`docs/reference/cli.md`: every command of the three programs, from their own help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from etude_rollout.cli import main as rollout
from etude_sampler.cli import EXIT_CODES
from etude_sampler.cli import app as sampler
from etude_sampler.lazy_commands import Later
from etude_trainer.cli import app as trainer
from page_parts import code, table

PROGRAMS = {"etude": sampler, "etude-rollout": rollout, "etude-trainer": trainer}
SHARED = {
    "--url": "The sampler's address. Variable `ETUDE_SAMPLER_URL`; `http://127.0.0.1:8321`.",
    "--key": "Bearer key, if the sampler asks for one. Variables `ETUDE_API_KEY` and, with a file,"
    " `ETUDE_API_KEY_FILE`.",
    "--data-dir": "Folder of the embedded servers. Variable `ETUDE_DATA_DIR`; `.etude`.",
    "--json": "One JSON object on standard output, nothing else; `etude watch` prints one a line.",
}
"""Options that mean the same wherever they are: told once."""
FAULTS = (
    "A fault is one line: the command, what is wrong, and where the help is. "
    "With `--json`, also before the command in `etude-rollout` and `etude-trainer`, it is a JSON "
    "object, the last line of standard error: a problem document (RFC 9457) with "
    "`detail`, `command` and `exit_code`; `code` is `usage` for wrong arguments, `unreachable` if "
    "no sampler answered, a [problem](problems.md) that the sampler told, or `failed`."
)


def cli_page(generated: str) -> str:
    """The page.

    Raises:
        ValueError: a command or an option does not explain itself.
    """
    lines = ["# Commands", "", generated, ""]
    lines += [
        "Results go to standard output; progress, warnings and failures to standard error."
        f" {EXIT_CODES}",
        "",
        FAULTS,
        "",
        "Options that mean the same in every command of `etude` that has them:",
        "",
        *table("Option", "Meaning", rows=[(code(name), text) for name, text in SHARED.items()]),
        "Completion in a shell: [completion](#etude-completion).",
        "",
    ]
    for program, app in PROGRAMS.items():
        lines += [f"## {program}", ""]
        for name, command in _commands(typer.main.get_command(app), program):
            lines += _section(name, command, shared=SHARED if program == "etude" else {})
    return "\n".join(lines)


def _commands(found: object, name: str) -> Iterator[tuple[str, TyperCommand]]:
    """Commands with their whole names, groups opened."""
    if isinstance(found, TyperGroup):
        for word, inner in found.commands.items():
            yield from _commands(inner, f"{name} {word}")
        return
    command = found.load() if isinstance(found, Later) else found
    assert isinstance(command, TyperCommand)
    yield name, command


def _section(name: str, command: TyperCommand, *, shared: dict[str, str]) -> list[str]:
    text = inspect.cleandoc(command.help or "")
    if not text:
        raise ValueError(f"{name} does not explain itself")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    context = typer.Context(command, info_name=name)
    rows, also = [], []
    for one in command.params:
        assert isinstance(one, TyperOption | TyperArgument)
        record = one.get_help_record(context)
        if record is None or "--help" in record[0]:
            continue
        if isinstance(one, TyperOption) and one.opts[0] in shared:
            also.append(code(one.opts[0]))
            continue
        rows.append(_row(name, *record))
    lines = [f"### {name}", ""]
    for paragraph in paragraphs:
        lines += [paragraph, ""]
    if rows:
        lines += table("Argument or option", "Meaning", "", rows=rows)
    if also:
        lines += [f"Also: {', '.join(also)}.", ""]
    return lines


def _row(command: str, head: str, text: str) -> tuple[str, str, str]:
    """`--limit <int range>`, its meaning, and what stands in brackets behind it."""
    meaning, _, notes = text.partition("  [")
    if not meaning:
        raise ValueError(f"{command}: {head} does not explain itself")
    words = notes.removesuffix("]").replace("env var: ", "").split("; ")
    return code(head), meaning, re.sub(r"\s+", " ", ", ".join(filter(None, words)))
