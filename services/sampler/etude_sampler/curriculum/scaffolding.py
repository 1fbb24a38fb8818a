"""What a scaffold is: from a drawn task and its aids to the help that is served with it.

Parts are in `scaffolds/`, named in `table`; `service/scaffolding.py` gathers the situation. What
happens with the help is the rollout worker's business; statistics are kept apart by kind and level
(algorithms.md, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from etude_proto.v1 import Aids, Ladder, Message, Scaffold, SelfExample
from etude_sampler.statistics import Floats

Aid = Literal["hints", "solution", "documents"]
"""Field of a task's aids that a scaffold lives on."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a scaffold may know of a drawn task."""

    messages: Sequence[Message]
    """The task's own prompt."""
    aids: Aids
    version: int
    """Policy version that the task is rolled out with."""
    num_rollouts: int
    last_success: int | None = None
    """Level of this scaffold at which the task succeeded when it last did; None: never."""
    numbers: Floats = field(default_factory=lambda: np.zeros(0))
    """Uniform numbers in (0, 1] of this entry, as many as `num_numbers` asks for."""
    strangers: Sequence[str] = ()
    """Documents of other training tasks, none of them this task's."""


@dataclass(frozen=True, slots=True)
class Served:
    """The help that goes with a task; by default none."""

    scaffold: Scaffold = field(default_factory=Scaffold)
    ladder: Ladder | None = None
    self_example: SelfExample | None = None


class Scaffolding(Protocol):
    """Help with drawn tasks. Pure; holds knobs only."""

    @property
    def kind(self) -> str:
        """Scaffold kind of its attempts."""

    @property
    def aid(self) -> Aid | None:
        """What tasks must bring along; None: nothing."""

    @property
    def needs_history(self) -> bool:
        """Whether `last_success` is read."""

    def num_strangers(self, aids: Aids) -> int:
        """Documents of other tasks that are wanted at most."""

    def num_numbers(self, aids: Aids) -> int:
        """Uniform numbers that are wanted."""

    def largest(self, group_size: int) -> int:
        """Most rollouts of a group that is trained on."""

    def serve(self, task: Situation) -> Served:
        """The help; none where the task lacks the aid, or before its time."""
