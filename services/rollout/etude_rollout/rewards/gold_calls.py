"""Gold calls: what a right call is, and how close a predicted one comes.

``ExactCall`` has one right value for each parameter (ToolRL's text, plain calls), ``AllowedCall``
has BFCL's sets of allowed values. ``matching.py`` pairs them with predicted calls; ``gold.py``
builds them. Sources: ToolRL (algorithms.md 2.2) and, for BFCL gold, our choice (9.2).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from .values import ABSENT, is_allowed


class Pair(NamedTuple):
    """How well a predicted call of the right name fits a gold call."""

    keys: float
    """Jaccard similarity of the parameter names, in [0, 1]."""
    values: float
    """Credit for right values, in [0, number of the gold call's parameters]."""


class GoldCall(Protocol):
    """One expected call."""

    @property
    def name(self) -> str:
        """Name of the tool."""

    @property
    def num_params(self) -> int:
        """Parameters that count in K: those that must be present."""

    def pair(self, parameters: Mapping[str, object], *, ordered: bool) -> Pair:
        """Fit of a predicted call of the same name; ``ordered``: keys must agree as lists."""

    def equals(self, call: object) -> bool:
        """Whether a predicted call is right as a whole."""


def key_similarity(gold: Sequence[str], given: Collection[str], *, ordered: bool) -> float:
    """J of algorithms.md 2.2 for parameter names, which do not repeat; list equality if ordered."""
    if ordered:
        return 1.0 if gold == list(given) else 0.0
    if not gold or not given:
        return 1.0 if not gold and not given else 0.0
    num_common = sum(1 for key in gold if key in given)
    return num_common / (len(gold) + len(given) - num_common)


@dataclass(frozen=True, slots=True)
class ExactCall:
    """A gold call with one right value for each parameter."""

    name: str
    parameters: Mapping[str, object]
    whole: Mapping[str, object]
    """The call as written, for comparison as a whole."""
    same: Callable[[object, object], bool]
    """Equality of values: Python's in ``parity``, JSON's in ``robust``."""

    @property
    def num_params(self) -> int:
        """Number of gold parameters."""
        return len(self.parameters)

    def pair(self, parameters: Mapping[str, object], *, ordered: bool) -> Pair:
        """ToolRL's J of the keys, and the count of equal values."""
        num_right = 0
        for key, value in self.parameters.items():
            if key in parameters and self.same(parameters[key], value):
                num_right += 1
        keys = key_similarity(list(self.parameters), parameters.keys(), ordered=ordered)
        return Pair(keys, float(num_right))

    def equals(self, call: object) -> bool:
        """Whether the call as written equals a predicted one."""
        return self.same(self.whole, call)


@dataclass(frozen=True, slots=True)
class AllowedCall:
    """A gold call with a set of allowed values for each argument (BFCL).

    An argument that may be absent counts only where it is given: then its key is expected, and
    its value shares the credit of the arguments that must be present. In a call without any such
    argument there is no credit to share; there a wrong value makes the key an unexpected one, so
    that no fault goes unseen.
    """

    name: str
    allowed: Mapping[str, Sequence[object]]
    """Allowed values by argument; the empty string among them: may be absent."""

    @property
    def num_params(self) -> int:
        """Number of arguments that must be present."""
        return sum(1 for listed in self.allowed.values() if ABSENT not in listed)

    def pair(self, parameters: Mapping[str, object], *, ordered: bool) -> Pair:
        """J over the keys that must be or may be there, and the share of allowed values."""
        num_params = self.num_params
        expected: list[str] = []
        num_right = 0
        for key, listed in self.allowed.items():
            right = key in parameters and is_allowed(parameters[key], listed)
            num_right += right
            given = key in parameters if num_params else right
            if given or ABSENT not in listed:
                expected.append(key)
        keys = key_similarity(expected, parameters.keys(), ordered=ordered)
        values = num_params * num_right / len(expected) if num_params else 0.0
        return Pair(keys, values)

    def equals(self, call: object) -> bool:
        """Whether a predicted call has the right name, keys and only allowed values."""
        if not isinstance(call, dict) or call.get("name") != self.name:
            return False
        parameters = call.get("parameters")
        if not isinstance(parameters, dict):
            return False
        return self.pair(parameters, ordered=False) == Pair(1.0, float(self.num_params))
