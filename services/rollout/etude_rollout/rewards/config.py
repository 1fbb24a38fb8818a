"""How a completion is scored: reward kind, parsing mode, ToolRL's variant switches, and the
bounds that follow from them at a step.

Built by the worker (from the run's reward specification) and by ``score.py`` (from options);
read by ``scoring.py``. Source of every switch: ToolRL's released reward (algorithms.md 2.3); the
mode ``robust`` is our choice (2.6).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, NamedTuple

Mode = Literal["parity", "robust"]
"""``parity`` reproduces ToolRL's released numbers; ``robust`` mends its parsing and matching."""

MODES: Final[tuple[Mode, ...]] = ("parity", "robust")
KINDS: Final[tuple[str, ...]] = ("toolrl",)


class Switch(StrEnum):
    """ToolRL's variant switches, in the order in which they are evaluated."""

    CORRECTMAX1 = "CORRECTMAX1"
    """Correctness in [-1, 1] ("equal max")."""
    MAX1STEP30MAX3 = "MAX1STEP30MAX3"
    """A third of the correctness bounds before step 30, half the format reward from it on."""
    SCHEDULEREWARD = "SCHEDULEREWARD"
    """Bounds move over 150 steps from 2 and 2 to the format's and the correctness's own."""
    WITHLENGTH = "WITHLENGTH"
    """Adds a reward for the length of the thought."""
    SCHEDULELENGTH = "SCHEDULELENGTH"
    """With WITHLENGTH only: the rewarded length grows with the step."""
    REFINEDREWARD = "REFINEDREWARD"
    """Names and keys count only as whole, ordered lists."""
    INTERMEDIATEREWARD = "INTERMEDIATEREWARD"
    """A gold call counts only if it is matched whole."""
    COARSEREWARD = "COARSEREWARD"
    """Anything but the gold list scores the minimum."""
    STRICTMATCH = "STRICTMATCH"
    """Exported by ToolRL's training script and read by nothing: accepted, without effect."""


SWITCHES: Final[tuple[str, ...]] = tuple(switch.value for switch in Switch)
_WHOLE_ONLY: Final = frozenset({Switch.INTERMEDIATEREWARD.value, Switch.COARSEREWARD.value})


class RewardConfigError(ValueError):
    """A reward configuration that cannot be used; the message names the value and the choices."""


class Bounds(NamedTuple):
    """What a right and a wrong format, and the best and the worst correctness, are worth."""

    format_max: float
    format_min: float
    correctness_max: float
    correctness_min: float


DEFAULT_BOUNDS: Final = Bounds(1.0, 0.0, 3.0, -3.0)


@dataclass(frozen=True, slots=True)
class RewardConfig:
    """How to score.

    Raises :class:`RewardConfigError` for an unknown kind, mode or switch.
    """

    kind: str = "toolrl"
    """Which reward; ``toolrl`` is the only one."""
    mode: Mode = "robust"
    """Rules of parsing, equality and matching (algorithms.md 2.6)."""
    switches: tuple[str, ...] = ()
    """Names of the switches that are on; order and repetition do not matter."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RewardConfigError(f"unknown reward {self.kind!r}; known: {', '.join(KINDS)}")
        if self.mode not in MODES:
            raise RewardConfigError(f"unknown mode {self.mode!r}; known: {', '.join(MODES)}")
        unknown = sorted(set(self.switches) - set(SWITCHES))
        if unknown:
            names = ", ".join(repr(name) for name in unknown)
            raise RewardConfigError(f"unknown switch {names}; known: {', '.join(SWITCHES)}")

    def has(self, switch: Switch) -> bool:
        """Whether a switch is on."""
        return switch.value in self.switches

    @property
    def takes_weights(self) -> bool:
        """Whether correctness is a sum of components, so that component weights can act on it."""
        return _WHOLE_ONLY.isdisjoint(self.switches)

    def bounds(self, step: int) -> Bounds:
        """The bounds at a global step (starting at 1; ToolRL, algorithms.md 2.3).

        As in ToolRL, CORRECTMAX1 with SCHEDULEREWARD goes on past zero: from step 300 on the best
        correctness is worth less than the worst.
        """
        if not self.switches:
            return DEFAULT_BOUNDS
        format_max, format_min, best, worst = DEFAULT_BOUNDS
        if self.has(Switch.CORRECTMAX1):
            best, worst = 1.0, -1.0
        if self.has(Switch.MAX1STEP30MAX3):
            if step < 30:
                best, worst = best / 3, worst / 3
            else:
                format_max, format_min = format_max / 2, format_min / 2
        if self.has(Switch.SCHEDULEREWARD):
            share = step / 150
            format_max = max(1.0, 2 - (2 - format_max) * share)
            format_min = min(-1.0, -2 + (2 + format_min) * share)
            best = min(3.0, 2 + (best - 2) * share)
            worst = max(-3.0, -2 + (worst + 2) * share)
        return Bounds(format_max, format_min, best, worst)

    def rewarded_words(self, step: int) -> float | None:
        """Words of thought that earn the whole length reward; None if length earns nothing."""
        if not self.has(Switch.WITHLENGTH):
            return None
        if self.has(Switch.SCHEDULELENGTH):
            return 384 + 256 * step / 105
        return 512.0
