"""What a part may ask for beside statistics: pace, version, features of tasks, a bank of groups.

A part that needs one of these has the Protocol's methods; whoever uses the part binds it first.
Neighbours: `parts` has the kinds of parts, `pace` moves and binds the pace.
"""

from __future__ import annotations

import functools
from typing import Protocol, Self, TypeGuard, TypeVar, runtime_checkable

from pydantic import JsonValue

from etude_sampler.statistics import Floats, GroupSummary

from .banking import BankRule
from .state import FoldInput

PartT = TypeVar("PartT")


@runtime_checkable
class Paced(Protocol):
    """A part that also depends on a schedule of the whole run: its pace, one JSON value.

    The pace moves once per policy version, in the fold, and is kept in `AllocatorState.pace` under
    the kind of the part. An allocator sees it in its state and needs none of this.
    """

    def start(self) -> JsonValue:
        """The pace before the first version."""

    def advance(self, pace: JsonValue, folded: FoldInput) -> JsonValue:
        """The pace after the un-scaffolded groups of one version."""

    def at(self, pace: JsonValue) -> Self:
        """The part at this pace."""


@runtime_checkable
class Dated(Protocol):
    """A gate that depends on the policy version, for example one that grows stricter."""

    def at_version(self, version: int) -> Self:
        """The part at this policy version."""


@runtime_checkable
class Seeing(Protocol):
    """A weigher that reads features of tasks; its config says `reads_features`."""

    def seeing(self, features_NF: Floats) -> Self:
        """The weigher of N tasks with these features, in the order of `Context.features`.

        Its `weights` is asked for these N tasks in this order, its `explain` for the only one.
        """


@runtime_checkable
class Banking(Protocol):
    """A gate whose admitted groups may be trained on again, in slots that it leaves empty."""

    def bank(self) -> BankRule | None:
        """How they are kept; None: they are not."""

    def values(self, summary: GroupSummary) -> Floats:
        """[N] x of groups, in [0, 1]: how much each is worth to the bank."""


@functools.cache
def _looked_up(kind: type, protocol: type) -> bool:
    return issubclass(kind, protocol)


def _offers(part: object, protocol: type) -> bool:
    """Whether a part has a protocol's methods; its class is looked at once."""
    kind: type = type(part)
    return _looked_up(kind, protocol)


def is_paced_part(part: object) -> TypeGuard[Paced]:
    """Whether a part has a pace."""
    return _offers(part, Paced)


def bank_of(gate: object) -> tuple[BankRule, Banking] | None:
    """The bank that a run with this gate keeps, and what values its groups; None: it keeps none."""
    if not _offers(gate, Banking):
        return None
    assert isinstance(gate, Banking)
    rule = gate.bank()
    return None if rule is None else (rule, gate)


def dated(part: PartT, version: int) -> PartT:
    """The part at a policy version; the same one if it depends on none."""
    if not _offers(part, Dated):
        return part
    assert isinstance(part, Dated)
    return part.at_version(version)
