"""The gold of a task, read from its reference on the wire.

``gold_from_task`` validates a reference (importers' rows end here) and reads it once for each mode;
``scoring.py`` scores completions against the reading of its mode. Invalid gold is an error of the
row, never a low reward (algorithms.md 2.5): it is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .config import MODES, Mode
from .gold_calls import AllowedCall, ExactCall, GoldCall
from .toolrl_format import (
    CALL_CLOSE,
    CALL_OPEN,
    RESPONSE_OPEN,
    Blocks,
    after_thought,
    call_block_lines,
    strict_call,
)
from .values import json_equal, python_equal

MAX_DEPTH: Final = 64
"""Deepest nesting of values in a gold (our choice); comparing must never exhaust the stack."""


class GoldError(ValueError):
    """A reference that cannot be scored against; the message names the fault."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a gold asks for under one mode."""

    blocks: Blocks
    calls: tuple[GoldCall, ...] = ()

    @property
    def num_params(self) -> int:
        """K: parameters that must be present, over all gold calls."""
        return sum(call.num_params for call in self.calls)


@dataclass(frozen=True, slots=True)
class Gold:
    """A validated gold. Readings differ between modes only in how text is read and compared."""

    kind: str
    """``toolrl``, ``calls``, ``bfcl`` or ``response``."""
    parity: Reading | None
    robust: Reading | None

    def reading(self, mode: Mode) -> Reading:
        """The reading of one mode; GoldError if the gold was not valid under it."""
        reading = self.parity if mode == "parity" else self.robust
        if reading is None:
            raise GoldError(f"this gold was validated for another mode than {mode}")
        return reading


def gold_from_task(reference: Mapping[str, object], *, mode: Mode | None = None) -> Gold:
    """Validate a task's reference and read it.

    ``mode`` None asks for a gold that is valid under both modes (importers); with a mode, only
    that one is read. Raises :class:`GoldError`.
    """
    kind = reference.get("kind")
    modes = MODES if mode is None else (mode,)
    readings: dict[Mode, Reading] = {each: _read(kind, reference, each) for each in modes}
    return Gold(str(kind), readings.get("parity"), readings.get("robust"))


def counts(gold: Gold) -> tuple[int, int]:
    """n gold calls and K parameters that must be present.

    K leaves out BFCL arguments that may be absent (``""`` among their allowed values).
    """
    reading = gold.robust or gold.parity or Reading(Blocks(calls=False, response=False))
    return len(reading.calls), reading.num_params


def active_subtasks(gold: Gold) -> tuple[str, ...]:
    """Components that a completion of this task is scored on (algorithms.md 3.1), in order.

    ``format`` always; ``tool_name`` and ``param_name`` iff there are gold calls; ``param_value``
    iff K > 0.
    """
    num_calls, num_params = counts(gold)
    return active_components(num_calls, num_params)


def active_components(num_calls: int, num_params: int) -> tuple[str, ...]:
    """The rule of :func:`active_subtasks`, from n and K."""
    if num_calls == 0:
        return ("format",)
    names = ("format", "tool_name", "param_name")
    return (*names, "param_value") if num_params > 0 else names


def _read(kind: object, reference: Mapping[str, object], mode: Mode) -> Reading:
    if kind == "toolrl":
        return _read_text(reference.get("text"), mode)
    if kind == "response":
        return Reading(Blocks(calls=False, response=True))
    if kind == "calls":
        response = reference.get("response", False)
        if not isinstance(response, bool):
            raise GoldError("'response' must be true or false")
        calls = [_exact_call(call, place, mode) for place, call in _listed(reference)]
        return Reading(Blocks(calls=True, response=response), tuple(calls))
    if kind == "bfcl":
        allowed = [_allowed_call(call, place) for place, call in _listed(reference)]
        return Reading(Blocks(calls=True, response=False), tuple(allowed))
    raise GoldError(f"unknown kind of reference {kind!r}; known: toolrl, calls, bfcl, response")


def _listed(reference: Mapping[str, object]) -> list[tuple[str, object]]:
    calls = reference.get("calls")
    if not isinstance(calls, Sequence) or isinstance(calls, str) or not calls:
        raise GoldError("'calls' must be a non-empty list")
    return [(f"gold call {number}", call) for number, call in enumerate(calls, start=1)]


def _read_text(text: object, mode: Mode) -> Reading:
    """Gold in ToolRL's output format; its blocks are known by their opening tags."""
    if not isinstance(text, str) or not text.strip():
        raise GoldError("'text' must be a non-empty string in ToolRL's output format")
    body = text if mode == "parity" else after_thought(text)
    blocks = Blocks(calls=CALL_OPEN in body, response=RESPONSE_OPEN in body)
    if not blocks.calls:
        return Reading(blocks)
    lines = call_block_lines(body)
    if mode == "robust":
        if CALL_CLOSE not in body.partition(CALL_OPEN)[2]:
            raise GoldError(f"the gold has {CALL_OPEN} without {CALL_CLOSE}")
        lines = [line for line in lines if line.strip()]
        if not lines:
            raise GoldError("the gold's call block is empty")
    calls = []
    for number, line in enumerate(lines, start=1):
        place = f"gold call {number}"
        try:
            call: object = strict_call(line) if mode == "robust" else json.loads(line)
        except (ValueError, RecursionError) as error:
            raise GoldError(f"{place} cannot be read: {error} in {line[:80]!r}") from error
        calls.append(_exact_call(call, place, mode))
    return Reading(blocks, tuple(calls))


def _exact_call(call: object, place: str, mode: Mode) -> ExactCall:
    if not isinstance(call, Mapping):
        raise GoldError(f"{place} is not an object")
    name, parameters = call.get("name"), call.get("parameters")
    if not isinstance(name, str):
        raise GoldError(f"{place} has no string 'name'")
    if not isinstance(parameters, Mapping):
        raise GoldError(f"{place} has no object 'parameters'")
    _refuse_deep(call, place)
    same = python_equal if mode == "parity" else json_equal
    return ExactCall(name, dict(parameters), dict(call), same)


def _allowed_call(call: object, place: str) -> AllowedCall:
    if not isinstance(call, Mapping) or len(call) != 1:
        raise GoldError(f"{place} must be an object with one function name")
    ((name, arguments),) = call.items()
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise GoldError(f"{place} must map a function name to its arguments")
    allowed: dict[str, list[object]] = {}
    for argument, listed in arguments.items():
        if not isinstance(listed, list):
            raise GoldError(f"{place}: argument {argument!r} needs a list of allowed values")
        _refuse_deep(listed, place)
        # Two BFCL rows write the empty list of values where they mean the empty list as a value;
        # an argument for which nothing is right has no other sensible reading.
        allowed[str(argument)] = listed or [[]]
    return AllowedCall(name, allowed)


def _refuse_deep(value: object, place: str) -> None:
    """Raise GoldError if values nest deeper than MAX_DEPTH (level by level: no recursion)."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, Mapping):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    raise GoldError(f"{place} nests values deeper than {MAX_DEPTH} levels")
