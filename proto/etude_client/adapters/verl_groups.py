"""Trajectories of verl's agent loops as `Rollout`s.

Pure. `verl_trainer.py` reads the trajectories from verl's queue and reports what this makes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsFloat

from etude_proto.v1 import FinishReason

from ..curriculum.rollouts import Rollout
from .rewards import Scale

SCORE = "score"
"""The component that stands for the reward itself."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What verl keeps of one output of an agent loop."""

    key: str
    """`{uid}_{session}_{index}`: verl's name for it."""
    reward: float
    """Sum of its rewards by token."""
    info: Mapping[str, object]
    """What its reward function returned beside the score (`reward_extra_info`)."""
    num_tokens: int
    """Tokens that the policy wrote."""
    response_len: int
    """Tokens after the prompt, those of tools included."""
    num_turns: int
    """As verl counts: those of the user, of tools and of the policy."""

    @property
    def session(self) -> int:
        """Which rollout of its prompt it belongs to."""
        return int(self.key.split("_")[1])

    @property
    def index(self) -> int:
        """Which of the rollout's outputs it is."""
        return int(self.key.split("_")[2])


def rollouts_of(
    trajectories: Iterable[Trajectory], *, num_rollouts: int, scale: Scale, max_tokens: int
) -> list[Rollout]:
    """The group of one prompt: one rollout a session, failures included.

    A session is scored by its last output, as verl scores it. Sessions that left no trajectory
    failed for technical reasons: they are `error`, and no evidence of the policy.

    Args:
        trajectories: of the prompt.
        num_rollouts: sessions that were to be made.
        scale: the components; `score` stands for the reward itself.
        max_tokens: verl's `data.max_response_length`: a response this long was cut.

    Raises:
        ValueError: a component is not among what the reward function returned, or no number.
    """
    last: dict[int, Trajectory] = {}
    for one in trajectories:
        if one.session not in last or last[one.session].index < one.index:
            last[one.session] = one
    made = [_rollout(last[session], scale, max_tokens) for session in sorted(last)]
    num_failed = max(0, num_rollouts - len(made))
    return made + [Rollout(0.0, finish_reason=FinishReason.ERROR)] * num_failed


def _rollout(one: Trajectory, scale: Scale, max_tokens: int) -> Rollout:
    is_cut = one.response_len >= max_tokens
    rollout = scale.rollout(
        _values(one, scale.names),
        reward=one.reward,
        finish_reason=FinishReason.LENGTH if is_cut else FinishReason.STOP,
        num_tokens=one.num_tokens,
    )
    return dataclasses.replace(rollout, num_turns=max(1, one.num_turns // 2))


def _values(one: Trajectory, names: Sequence[str]) -> list[float | None]:
    values: list[float | None] = []
    for name in names:
        value = one.info.get(name, one.reward) if name == SCORE else one.info.get(name, one)
        if value is one:
            raise ValueError(
                f"the reward function returned no {name!r}, which sampler_kwargs.components "
                f"names; it returned {', '.join(sorted(one.info)) or 'the score alone'}"
            )
        if value is not None and not isinstance(value, SupportsFloat):
            raise ValueError(f"the reward function returned {value!r} as {name!r}: not a number")
        values.append(None if value is None else float(value))
    return values
