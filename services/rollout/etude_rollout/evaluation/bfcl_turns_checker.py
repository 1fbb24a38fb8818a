"""Verdicts on BFCL's multi-turn rows, by the package's executor and checker in a child process.

Calls are read from the stored texts and written as the package wants them: a name that a service
has, and plain values. The policy's text itself is never executed. Used by `bfcl.py`; the other end
is `bfcl_turns_child.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Collection, Mapping, Sequence
from threading import Lock

from pydantic import JsonValue

from ..tools.base import ToolCall
from ..turns.calls import read_turn
from .items import EvaluationError, Verdict

_CHILD = "etude_rollout.evaluation.bfcl_turns_child"
SECONDS_A_ROW = 30
"""A row whose calls take more of a CPU is wrong; BFCL's own take milliseconds."""


class TurnsChecker:
    """One child process, started at the first verdict and ended with this object."""

    def __init__(self, *, seconds_a_row: int = SECONDS_A_ROW) -> None:
        self._seconds_a_row = seconds_a_row
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()

    def check(
        self,
        row: Mapping[str, JsonValue],
        gold: JsonValue,
        turns: Sequence[Sequence[str]],
        *,
        tools: Collection[str],
    ) -> Verdict:
        """Judge an episode.

        Args:
            row: with `id`, `initial_config`, `involved_classes`.
            gold: the row's gold calls, turn by turn.
            turns: for each of the user's turns, what the policy said.
            tools: names that may be called.

        Raises:
            EvaluationError: the child cannot be started; the package may be missing.
        """
        steps = [[call_texts(text, tools) for text in turn] for turn in turns]
        asked = {
            "row": {key: row[key] for key in ("id", "initial_config", "involved_classes")},
            "gold": gold,
            "calls": [[step for step in turn if step] for turn in steps],
        }
        with self._lock:
            answer = self._ask(json.dumps(asked))
        if answer is None:
            return Verdict(is_right=False, reason="the checker gave up: too long, or too large")
        return Verdict(bool(answer["is_right"]), str(answer["reason"]))

    def _ask(self, line: str) -> dict[str, JsonValue] | None:
        is_new = self._process is None
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _CHILD, str(self._seconds_a_row)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={"PATH": os.environ.get("PATH", "")},
            )
            weakref.finalize(self, _end, self._process)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            said = process.stdout.readline()
        except BrokenPipeError:
            said = ""
        if said:
            answer: dict[str, JsonValue] = json.loads(said)
            return answer
        self._process = None
        _end(process)
        if is_new and process.returncode == 1:
            raise EvaluationError("BFCL's multi-turn checker cannot be started (see above)")
        return None


def call_texts(text: str, tools: Collection[str]) -> list[str]:
    """A step's calls of known tools, as Python text with plain values; none if it only talks."""
    calls = read_turn(text, "toolrl").calls
    return [
        f"{call.name}({', '.join(f'{key}={value!r}' for key, value in call.parameters.items())})"
        for call in calls
        if isinstance(call, ToolCall)
        and call.name in tools
        and all(key.isidentifier() for key in call.parameters)
    ]


def _end(process: subprocess.Popen[str]) -> None:
    """Stop the child and free its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
