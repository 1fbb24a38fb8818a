"""``etude-rollout score``: rewards of completions from standard input, without a server.

Each line in is ``{"completion": "...", "gold": "..."}``, gold being text in ToolRL's output format
or a task's reference as an object; each good line gives one JSON line out. ``cli.py`` mounts
:func:`score`; :func:`run_score` is the same without a terminal. The rewards are in ``rewards/``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, cast

import typer

from etude_client.commands import CommandFailed

from .rewards import (
    MODES,
    SWITCHES,
    GoldError,
    Mode,
    RewardConfig,
    RewardConfigError,
    gold_from_task,
    score_completion,
)


class BadLinesError(ValueError):
    """Some lines could not be scored; raised after all good lines were."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
        """One sentence for each bad line, with its number, in order."""

    def __reduce__(self) -> tuple[type[BadLinesError], tuple[list[str]]]:
        return BadLinesError, (self.faults,)


def run_score(
    lines: Iterable[str | bytes],
    *,
    reward: str = "toolrl",
    mode: str = "parity",
    switches: tuple[str, ...] = (),
    step: int = 0,
) -> Iterator[str]:
    """Score lines one at a time; yields one JSON object for each good line, in order.

    Each has ``total``, ``format``, ``correctness``, ``length``, ``components`` (by name),
    ``success``, ``num_gold_calls`` and ``num_gold_params``. Raises RewardConfigError at once for
    a wrong reward, mode, switch or step, and :class:`BadLinesError` at the end if lines were bad.
    """
    config = RewardConfig(kind=reward, mode=cast(Mode, mode), switches=switches)
    if step < 0:
        raise RewardConfigError(f"step must be >= 0, not {step}")
    return _scored_lines(lines, config, step)


def _scored_lines(lines: Iterable[str | bytes], config: RewardConfig, step: int) -> Iterator[str]:
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            scored = _score_line(line, config, step)
        except (_BadLineError, GoldError) as error:
            reason = str(error).replace("\n", " ")
            faults.append(f"line {number}: {reason}")
        else:
            yield scored
    if faults:
        raise BadLinesError(faults)


class _BadLineError(ValueError):
    """Why a line is no completion with a gold."""


def _score_line(line: str | bytes, config: RewardConfig, step: int) -> str:
    try:
        row: object = json.loads(line.decode() if isinstance(line, bytes) else line)
    except UnicodeDecodeError as error:
        raise _BadLineError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise _BadLineError("JSON nested too deeply") from error
    except json.JSONDecodeError as error:
        raise _BadLineError(f"not JSON: {error.msg} at column {error.colno}") from error
    except ValueError as error:  # a number of too many digits
        raise _BadLineError(f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _BadLineError('not an object with "completion" and "gold"')
    completion, gold = row.get("completion"), row.get("gold")
    if not isinstance(completion, str):
        raise _BadLineError('"completion" must be a string')
    if isinstance(gold, str):
        gold = {"kind": "toolrl", "text": gold}
    if not isinstance(gold, dict):
        raise _BadLineError('"gold" must be a string in ToolRL\'s format or a reference object')
    task_gold = gold_from_task(gold, mode=config.mode)
    return json.dumps(asdict(score_completion(completion, task_gold, config=config, step=step)))


def score(
    reward: Annotated[str, typer.Option(help="Which reward; only toolrl.")] = "toolrl",
    mode: Annotated[
        str,
        typer.Option(
            help=f"How text is read and compared: {' or '.join(MODES)}. parity gives the numbers "
            "of ToolRL's released code, robust mends its parsing and matching (runs use robust "
            "unless their reward says otherwise)."
        ),
    ] = "parity",
    switches: Annotated[
        str, typer.Option(help=f"ToolRL variants, separated by commas: {', '.join(SWITCHES)}.")
    ] = "",
    step: Annotated[int, typer.Option(help="Global step, for the scheduled variants.")] = 0,
) -> None:
    """Score completions: JSON lines {"completion": ..., "gold": ...} on standard input.

    Prints one JSON line for each good line. Exits with 2 if an option or a line was bad.
    """
    names = tuple(name for part in switches.split(",") if (name := part.strip()))
    try:
        scored = run_score(sys.stdin.buffer, reward=reward, mode=mode, switches=names, step=step)
        for line in scored:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except RewardConfigError as error:
        raise CommandFailed(str(error)) from error
    except BadLinesError as error:
        for fault in error.faults:
            typer.echo(f"refused: {fault}", err=True)
        raise CommandFailed(f"{len(error.faults)} lines could not be scored") from error
