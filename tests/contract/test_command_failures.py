"""Every command of every program says what went wrong in one line, or as one JSON object."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner, Result

from etude_client.commands import CommandFailed, told
from etude_client.errors import BY_CODE, Unreachable
from etude_proto.v1 import Problem, ProblemCode
from etude_rollout.cli import main as rollout
from etude_sampler.cli import app as sampler
from etude_trainer.cli import app as trainer

PROGRAMS = {"etude": sampler, "etude-rollout": rollout, "etude-trainer": trainer}


def commands_of(found: TyperCommand | TyperGroup, *words: str) -> Iterator[tuple[str, ...]]:
    """The words that lead to each command, and to each group."""
    yield words
    if isinstance(found, TyperGroup):
        for word, inner in found.commands.items():
            assert isinstance(inner, TyperCommand | TyperGroup)
            yield from commands_of(inner, *words, word)


EVERY = [
    words
    for name, app in PROGRAMS.items()
    for root in [typer.main.get_command(app)]
    if isinstance(root, TyperGroup)
    for words in commands_of(root, name)
]


def call(*words: str) -> Result:
    """A program's answer, as a terminal of any width would get it."""
    return CliRunner().invoke(PROGRAMS[words[0]], list(words[1:]), env={"COLUMNS": "40"})


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_wrong_option_is_one_line_with_the_way_to_the_help(words: tuple[str, ...]) -> None:
    name = " ".join(words)
    done = call(*words, "--no-such-thing")
    assert (done.exit_code, done.stdout) == (2, "")
    said = f"{name}: no such option: --no-such-thing; see {name} --help\n"
    assert done.stderr == said
    done = call(*words, "--no-such-thing", "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert json.loads(line) == {
        "type": "about:blank",
        "title": "wrong arguments",
        "code": "usage",
        "detail": "no such option: --no-such-thing",
        "command": name,
        "exit_code": 2,
        "help": f"{name} --help",
    }


def test_every_program_was_walked() -> None:
    assert len(EVERY) > 50
    leaves = {"runs", "watch", "models", "score", "worker", "config"}
    assert leaves <= {words[1] for words in EVERY if len(words) > 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("etude runs create x --dataste d", "--dataste (did you mean --dataset?); see etude runs"),
        ("etude runs crate", "etude runs: no such command 'crate' (did you mean 'create'?); see"),
        ("etude runs create", "missing argument 'name'"),
        ("etude watch x --every abc", "invalid value for '--every'"),
        ("etude completion", "Choose from: bash, zsh, fish"),
        ("etude runs list more", "unexpected extra argument"),
        ("etude runs list --url", "'--url' requires an argument; see etude --help"),
        ("etude keys create --label x --scope read --expires 3y", "'--expires': '3y' is no time"),
        ("etude-rollout worker --rn x", "(did you mean --run?); see etude-rollout worker --help"),
        ("etude-rollout wroker", "etude-rollout: no such command 'wroker' (did you mean 'worker'"),
        ("etude-rollout eval compare a", "missing argument 'quantised'"),
        ("etude-rollout worker --model /nowhere", "etude-rollout: no run: give --run or set"),
        ("etude-rollout models make-tiny --out /dev/null/x", "cannot write /dev/null/x: Not a d"),
        ("etude-trainer run --max-steps 0", "etude-trainer run: invalid value for '--max-steps'"),
        ("etude-trainer run", "etude-trainer: which run? give --run or ETUDE_RUN"),
        ("etude-trainer config --config /nowhere.toml", "etude-trainer: "),
    ],
)
def test_a_slip_is_one_line(words: str, said: str) -> None:
    done = call(*words.split())
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert said in line
    program, *rest = words.split()
    as_json = call(program, *rest, "--json")
    if "no such option: --json" not in as_json.stderr:
        (line,) = as_json.stderr.splitlines()
        assert json.loads(line)["exit_code"] == 2


def test_the_programs_have_a_json_of_their_own() -> None:
    for program in ("etude-rollout", "etude-trainer"):
        done = call(program, "--json", {"etude-rollout": "worker"}.get(program, "run"))
        document = json.loads(done.stderr)
        assert (document["code"], document["command"]) == ("failed", program)
        assert call(program, "--version").stdout.startswith(f"{program} ")


def test_after_two_dashes_nothing_asks_for_json() -> None:
    done = call("etude-rollout", "serve-vllm", "--prot", "1", "--", "--json")
    assert done.stderr.startswith("etude-rollout serve-vllm: no such option: --prot (did you")


def test_what_the_sampler_refused_is_told_whole() -> None:
    code = ProblemCode.PAYLOAD_INVALID
    problem = Problem.model_validate(
        {
            "type": "https://etude.invalid/problems/payload_invalid", "title": "Not valid",
            "status": 422, "detail": "two faults", "instance": "/v1/runs", "code": code,
            "request_id": "req_1", "retryable": False,
            "errors": [{"pointer": "/seed", "detail": "must be positive"}],
        }
    )  # fmt: skip
    failed = CommandFailed("no run was made")
    failed.__cause__ = BY_CODE[code](problem, 422)
    document = told(failed, "etude")
    kept = problem.model_dump(mode="json") | {"detail": "no run was made"}
    assert document == {**kept, "command": "etude", "exit_code": 2}
    failed.__cause__ = Unreachable("away")
    assert told(failed, "etude")["code"] == "unreachable"
    assert told(typer.Abort(), "etude")["exit_code"] == 1
    again = pickle.loads(pickle.dumps(CommandFailed("why", 3)))
    assert again.exit_code == 3
