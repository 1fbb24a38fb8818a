"""API-Bank as ToolRL evaluates it: the rows, the rule, the groups (algorithms.md 9.1).

The three files are those that ToolRL processed; each row brings its own system text with tools and
output format. They are read where they are and never trained on. `asking.py` asks, this judges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from etude_proto.v1 import Message

from .calls import answer_text, objects_in
from .items import EvaluationError, Group, Item, Turns, Verdict

LEVELS = (1, 2, 3)
_ROWS = TypeAdapter(list[dict[str, JsonValue]])


class ApiBank:
    """The rows of one folder, held in memory (1.7 MB)."""

    name = "api-bank"

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            EvaluationError: a file is missing, or a row of it cannot be used.
        """
        digest = hashlib.sha256()
        self._items: list[Item] = []
        for level in LEVELS:
            path = folder / f"level-{level}-api_processed.json"
            try:
                content = path.read_bytes()
            except OSError as error:
                raise EvaluationError(f"cannot read {path}: {error.strerror}") from error
            digest.update(content)
            try:
                rows = _ROWS.validate_json(content)
            except ValidationError as error:
                raise EvaluationError(f"{path} is no JSON list of rows") from error
            self._items += [_item(row, level, number, path) for number, row in enumerate(rows)]
        self.data = f"sha256:{digest.hexdigest()[:16]}"
        domains = [item.domain for item in self._items]
        self.sizes = {f"level-{level}": domains.count(f"level-{level}") for level in LEVELS}

    @property
    def groups(self) -> Sequence[Group]:
        """The published number: the share of all items, whatever their level."""
        total = sum(self.sizes.values())
        weights = {domain: size / total for domain, size in self.sizes.items()}
        return (Group("overall", weights, f"right / items, over all {total} items (micro)"),)

    def items(self) -> Sequence[Item]:
        """All items, level by level."""
        return self._items

    def check(self, item: Item, text: str, turns: Turns = ()) -> Verdict:
        """Right iff any predicted call has the gold's name and parameters (Python equality).

        An object without both keys `name` and `parameters` is taken as parameters without a name:
        a gold of that shape asks for parameters only, a predicted one fits no gold with a name
        (our reading of the rule).
        """
        name, parameters = _as_call(_gold(item.row))
        predicted = [_as_call(each) for each in objects_in(text)]
        if not predicted:
            return Verdict(is_right=False, reason="no call")
        if any(given == parameters and name in (None, called) for called, given in predicted):
            return Verdict(is_right=True)
        if any(called == name for called, _ in predicted):
            return Verdict(is_right=False, reason="wrong parameters")
        return Verdict(is_right=False, reason="wrong tool")

    def gold_answers(self, item: Item) -> Sequence[str]:
        """The gold call alone."""
        name, parameters = _as_call(_gold(item.row))
        return [answer_text([(str(name), parameters)])]


def _item(row: dict[str, JsonValue], level: int, number: int, path: Path) -> Item:
    system, user = row.get("system"), row.get("user")
    if not isinstance(system, str) or not isinstance(user, str):
        raise EvaluationError(f"{path} row {number}: system and user must be text")
    if not isinstance(_gold(row), dict):
        raise EvaluationError(f"{path} row {number}: answer must be a call or a list of one call")
    return Item(
        id=f"level-{level}/{number}",
        domain=f"level-{level}",
        messages=(Message(role="system", content=system), Message(role="user", content=user)),
        tools=(),
        row=row,
    )


def _gold(row: dict[str, JsonValue] | object) -> JsonValue:
    """The gold object; levels 1 and 3 wrap it in a list of one."""
    answer = row.get("answer") if isinstance(row, dict) else None
    if isinstance(answer, list):
        return answer[0] if len(answer) == 1 else None
    return answer


def _as_call(value: JsonValue) -> tuple[JsonValue, JsonValue]:
    """Name and parameters; the name is null where the object does not have both keys."""
    if isinstance(value, dict) and "name" in value and "parameters" in value:
        return value["name"], value["parameters"]
    return None, value
