"""Wrong arguments of commands that talk to a sampler: one line, exit code 2, nothing is called."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from etude_sampler.cli import app

CREATE = ("runs", "create", "x", "--dataset", "d")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*CREATE, "--group-size", "1"), "group_size: "),
        ((*CREATE, "--seed", "-5"), "seed: "),
        ((*CREATE, "--config", "/dev/null"), "Invalid JSON"),
        ((*CREATE, "--config", "/nowhere/at-all.json"), "No such file"),
        ((*CREATE, "--config", "/"), "--config: [Errno 21] Is a directory"),
        ((*CREATE, "--config", sys.executable), "--config: 'utf-8' codec can't decode"),
        (("runs", "create", "名", "--dataset", "d"), "name: "),
        (("runs", "list", "--url", "nope"), "not an http(s) URL"),
        (("runs", "list", "--url", "ftp://x"), "not an http(s) URL"),
        (("runs", "list", "--url", "http://[::1"), "not an http(s) URL"),
        (("runs", "list", "--url", "127.0.0.1:8321"), "not an http(s) URL"),
        (("runs", "list", "--key", "é"), "key"),
    ],
)
def test_a_wrong_argument_is_one_line(words: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("etude: ")
    assert told in line
