"""Reward functions as components: names, ranges, and what counts as solved.

Pure; every adapter turns its framework's rewards into `Rollout`s with it. Reward functions stay as
they are: they may return anything, a range says what 0 and 1 are.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etude_proto.v1 import FinishReason

from ..curriculum.rollouts import Rollout

logger = logging.getLogger("etude_client")

UNIT = (0.0, 1.0)
"""Range of a reward function for which none is given (our choice)."""


def component_name(name: str) -> str:
    """A reward function's name as that of a sub-task: snake_case, at most 64 characters.

    Raises:
        ValueError: nothing of it is left.
    """
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    made = re.sub(r"[^a-z0-9]+", "_", words).strip("_")[:64].rstrip("_")
    if not made or not made[0].isalpha():
        raise ValueError(f"the reward function {name!r} needs a name with letters")
    return made


@dataclass
class Scale:
    """From values of reward functions to components in [0, 1].

    Args:
        names: of the reward functions, in their order.
        ranges: by name, the lowest and the highest value; a value outside is clipped, and said
            once.
        solved_at: a rollout is a success if all its components are at least this.

    Raises:
        ValueError: a range is empty or of an unknown function, or two names are one.
    """

    names: Sequence[str]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    solved_at: float = 1.0 - 1e-6
    components: tuple[str, ...] = field(init=False)
    """Names of the components, in the functions' order."""
    _clipped: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.components = tuple(component_name(name) for name in self.names)
        if len(set(self.components)) < len(self.components):
            raise ValueError(f"reward functions need different names: {', '.join(self.names)}")
        unknown = sorted(set(self.ranges) - set(self.names))
        if unknown:
            raise ValueError(f"no reward function is named {', '.join(unknown)}")
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"the range of {name} must be (low, high), not ({low}, {high})")
        if not 0.0 < self.solved_at <= 1.0:
            raise ValueError("solved_at must be in (0, 1]")

    def rollout(
        self,
        values: Sequence[float | None],
        *,
        reward: float,
        finish_reason: FinishReason = FinishReason.STOP,
        num_tokens: int = 0,
    ) -> Rollout:
        """A rollout of one value for each reward function; None and NaN: does not apply to it.

        A rollout without any value is no evidence of the policy.
        """
        components = {
            component: self._unit(name, value)
            for name, component, value in zip(self.names, self.components, values, strict=True)
            if value is not None and not math.isnan(value)
        }
        if not components or not math.isfinite(reward):
            return Rollout(0.0, finish_reason=FinishReason.ERROR, num_tokens=num_tokens)
        return Rollout(
            reward,
            components,
            success=min(components.values()) >= self.solved_at,
            finish_reason=finish_reason,
            num_tokens=num_tokens,
        )

    def _unit(self, name: str, value: float) -> float:
        low, high = self.ranges.get(name, UNIT)
        unit = (value - low) / (high - low)
        if not -1e-6 <= unit <= 1.0 + 1e-6 and name not in self._clipped:
            self._clipped.add(name)
            logger.warning(
                "reward function %s returned %g, outside [%g, %g]: clipped for the curriculum; "
                "give its range, ranges={%r: (low, high)}",
                name,
                value,
                low,
                high,
                name,
            )
        return min(max(unit, 0.0), 1.0)
