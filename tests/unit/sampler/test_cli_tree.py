"""The table of commands: what it says is what the commands say, and nothing is loaded for it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from etude_sampler.cli import app
from etude_sampler.command_tree import TREE, Branch, Entry
from etude_sampler.lazy_commands import Later

ENTRIES = {
    " ".join(words): entry
    for name, one in TREE.items()
    for words, entry in (
        [((name,), one)]
        if isinstance(one, Entry)
        else [((name, sub), entry) for sub, entry in one.commands.items()]
    )
}
HEAVY = ("torch", "sqlalchemy", "fastapi", "uvicorn", "numpy", "etude_proto", "httpx", "alembic")
"""What the list of commands must not wait for."""
SERVERS = ("sqlalchemy", "fastapi", "uvicorn", "numpy", "alembic", "pyarrow", "matplotlib")
"""What a command that only calls the sampler must not wait for."""


def loaded(name: str) -> TyperCommand:
    """A command itself."""
    found: object = get_command(app)
    for word in name.split():
        assert isinstance(found, TyperGroup)
        found = found.commands[word]
    assert isinstance(found, Later)
    return found.load()


@pytest.mark.parametrize("name", ENTRIES)
def test_a_command_teaches_itself(name: str) -> None:
    command = loaded(name)
    text = command.help or ""
    first = " ".join(text.split("\n\n")[0].split())
    assert first == ENTRIES[name].summary
    examples = re.findall(r"^Example: `(.*)`$", text, re.MULTILINE)
    assert len(examples) == 1, text
    words = shlex.split(examples[0])
    while "=" in words[0]:
        words.pop(0)
    again: object = get_command(app)
    assert words.pop(0) == "etude"
    while isinstance(again, TyperGroup):
        again = again.commands[words.pop(0)]
    assert isinstance(again, Later)
    again.make_context(again.name, words)  # its own example can be given


@pytest.mark.parametrize("name", ENTRIES)
def test_options_are_called_the_same_everywhere(name: str) -> None:
    options: dict[str, TyperOption] = {}
    for one in loaded(name).params:
        assert isinstance(one, TyperOption | TyperArgument)
        if isinstance(one, TyperOption):
            options |= dict.fromkeys(one.opts, one)
            assert one.help, one.name
        else:
            assert one.help, one.name
    assert "--json" in options
    assert not options.keys() & {"--api-key", "--sampler-url", "--sampler", "--as-json"}
    if "--url" in options:
        assert options["--url"].envvar == "ETUDE_SAMPLER_URL"
        assert options["--key"].envvar == "ETUDE_API_KEY"


def modules_of(*words: str) -> set[str]:
    """Top-level modules that a command has loaded when it ends."""
    probe = (
        "import sys\nsys.argv = ['etude', *sys.argv[1:]]\nfrom etude_sampler.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *words], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split("LOADED")[1].split())


def test_nothing_is_imported_that_is_not_called() -> None:
    assert modules_of("runs", "--help") & set(HEAVY) == set()
    called = modules_of("runs", "list", "--url", "http://127.0.0.1:1")
    assert "etude_client" in called
    assert called & set(SERVERS) == set()


def test_every_group_is_listed_with_its_commands() -> None:
    for name, one in TREE.items():
        if isinstance(one, Branch):
            done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
            assert done.exit_code == 0
            assert all(word in done.stdout for word in one.commands)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rnus", "list"), "did you mean 'runs'?"),
        (("runs", "crate"), "did you mean 'create'?"),
        (("runs", "list", "--jsn"), "--json"),
        (("simulate", "--strategies", "dslc"), "did you mean 'dscl'?"),
        (("completion", "tcsh"), "'bash', 'zsh', 'fish'"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(words: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert done.exit_code == 2, done.output
    assert told in done.stderr
    assert not done.stdout


def test_a_sampler_that_is_not_there_is_named_with_what_to_do() -> None:
    for words in (["runs", "list"], ["watch", "x"]):
        done = CliRunner().invoke(app, [*words, "--url", "http://127.0.0.1:1"])
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("etude: no answer from http://127.0.0.1:1; is `etude serve` running")
