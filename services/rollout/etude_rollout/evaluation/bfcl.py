"""BFCL as a benchmark: its rows, its checker, its means, ToolRL's reading of answers.

Calls are read as in API-Bank (`calls.py`); a call of the tool `None` says that no tool fits and is
dropped (algorithms.md 9.2). `bfcl_data.py` reads rows, `bfcl_checker.py` judges calls,
`bfcl_scores.py` averages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import bfcl_data
from .bfcl_checker import Calls, check_calls
from .bfcl_data import ALL, LIVE, MULTI_TURN, NO_TOOL, NON_LIVE, SINGLE_TURN, WITHOUT_ANSWERS
from .bfcl_gold import gold_calls
from .bfcl_scores import groups_of
from .bfcl_turns import gold_turns, num_turns, parameters_of, read_turns_items
from .bfcl_turns_checker import TurnsChecker
from .calls import answer_text, answer_without_calls, objects_in
from .items import EvaluationError, Group, Item, Split, Turns, Verdict

NAMES = {
    "all": ALL,
    "single_turn": SINGLE_TURN,
    "non_live": NON_LIVE,
    "live": LIVE,
    "multi_turn": MULTI_TURN,
}
"""What may be said for several categories."""
_LANGUAGES = {"simple_java": "java", "simple_javascript": "javascript"}


def categories_of(text: str) -> tuple[str, ...]:
    """Categories named in `a,b` or by a name for several, in the order of the table.

    Raises:
        EvaluationError: one is not known.
    """
    chosen: set[str] = set()
    for part in (part.strip() for part in text.split(",")):
        if part not in NAMES and part not in ALL:
            raise EvaluationError(f"no category {part!r}; there are {', '.join((*NAMES, *ALL))}")
        chosen.update(NAMES.get(part, (part,)))
    return tuple(name for name in ALL if name in chosen)


class Bfcl:
    """The rows of some categories, held in memory."""

    name = "bfcl"

    def __init__(
        self,
        categories: Sequence[str] = ALL,
        *,
        data: Path | None = None,
        hint: bool = True,
        split: Split | None = None,
    ) -> None:
        """
        Args:
            categories: which, in the order of the table.
            data: folder of the rows; default: the installed package's.
            hint: whether the request says how to say that no tool fits (ToolRL's handler).
            split: only rows on this side of the import's split; those of categories that are never
                imported are on no side and stay.

        Raises:
            EvaluationError: the package is not installed, or its rows cannot be used.
        """
        folder = data or bfcl_data.installed_data()
        read = {
            name: read_turns_items(folder, name)
            if name in MULTI_TURN
            else bfcl_data.read_items(folder, name, hint=hint)
            for name in categories
        }
        self._folder = folder
        self._turns_checker = TurnsChecker()
        self._items = [
            item
            for items in read.values()
            for item in items
            if split is None or item.split in (None, split)
        ]
        chosen = [item.domain for item in self._items]
        self.sizes = {name: chosen.count(name) for name in categories}
        hinted = "with" if hint else "without"
        version = bfcl_data.package_version()
        digest = bfcl_data.digest(folder, ALL)
        self.data = f"{bfcl_data.DISTRIBUTION} {version}, {digest}, {hinted} no-tool hint"

    @property
    def groups(self) -> Sequence[Group]:
        """Means of version 3 whose categories are all there."""
        return groups_of(self.sizes)

    def items(self) -> Sequence[Item]:
        """All items, category by category."""
        return self._items

    def check(self, item: Item, text: str, turns: Turns = ()) -> Verdict:
        """What BFCL's checkers say of the calls in an answer, or in an episode."""
        if item.episode is not None:
            return self._check_turns(item, turns)
        calls = predicted_calls(text)
        if item.domain.endswith("irrelevance"):
            return Verdict(not calls, "a call where none fits" if calls else "")
        if not calls:
            return Verdict(is_right=False, reason="no call")
        if item.domain == "live_relevance":
            return Verdict(is_right=True)
        return check_calls(item.row, item.domain, calls)

    def gold_answers(self, item: Item) -> Sequence[str]:
        """An answer with the first listed values, or without a call where none fits; the gold calls
        of an episode."""
        if item.episode is not None:
            return gold_turns(self._folder, item)
        if item.domain in WITHOUT_ANSWERS and item.domain != "live_relevance":
            return [answer_without_calls("None of the tools can do that.")]
        return [answer_text(gold_calls(item.row, language=_LANGUAGES.get(item.domain)))]

    def _check_turns(self, item: Item, turns: Turns) -> Verdict:
        """As the package's runner: an episode that did not reach the end is wrong."""
        if len(turns) != num_turns(item):
            return Verdict(is_right=False, reason="multi_turn:force_terminated")
        tools = parameters_of(self._folder, item)
        return self._turns_checker.check(item.row, item.row["ground_truth"], turns, tools=tools)


def predicted_calls(text: str) -> Calls:
    """Calls in an answer as the checker takes them, without calls of the tool `None`."""
    found: Calls = []
    for value in objects_in(text):
        name, parameters = value.get("name"), value.get("parameters")
        if isinstance(name, str) and isinstance(parameters, dict) and name != NO_TOOL:
            found.append({name: parameters})
    return found
