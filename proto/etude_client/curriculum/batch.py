"""A batch of tasks to practise, as plain data: it pickles, and any process may report on it.

`facade.py` makes them; `keeping.py` keeps their leases alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from etude_proto.v1 import Arm, Lease, PromptItem, Task

if TYPE_CHECKING:
    from etude_proto.v1 import Message

Origin = Literal["curriculum", "uniform"]
"""Who chose: the sampler, or this client, uniformly, while the sampler had nothing to give."""


@dataclass(frozen=True, slots=True)
class Item:
    """One task to practise."""

    task: Task
    num_rollouts: int
    """Rollouts to make of it."""
    index: int | None
    """Row of the trainer's own data, if it was given to the `Curriculum`."""
    lease: Lease | None
    """The claim under which it is reported; None if this client chose it by itself."""
    prompt: PromptItem | None
    """Everything that the sampler says of it: scaffold, lane, weight, probability."""

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.task.id

    @property
    def messages(self) -> list[Message]:
        """The dialogue up to the point where the policy speaks."""
        return self.task.messages

    @property
    def subtasks(self) -> list[str]:
        """Names of the task's reward components."""
        return list(self.task.subtasks)

    @property
    def origin(self) -> Origin:
        """Who chose it."""
        return "uniform" if self.lease is None else "curriculum"

    @property
    def is_control(self) -> bool:
        """Whether it was drawn uniformly: by the run's control arm, or by this client."""
        return self.prompt is None or self.prompt.arm is Arm.CONTROL


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks to practise next, in the order in which they were drawn."""

    items: tuple[Item, ...]
    policy_version: int
    """The run's version when it was drawn."""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The claims that it holds, each once."""
        held = {item.lease.id: item.lease for item in self.items if item.lease is not None}
        return tuple(held.values())

    def tasks_of(self, lease: Lease) -> list[str]:
        """Ids of the tasks that a claim covers."""
        return [
            item.task_id
            for item in self.items
            if item.lease is not None and item.lease.id == lease.id
        ]

    def item(self, task_id: str) -> Item:
        """The item of a task.

        Raises:
            KeyError: the batch does not hold it.
        """
        for item in self.items:
            if item.task_id == task_id:
                return item
        raise KeyError(f"{task_id} is not in this batch")
