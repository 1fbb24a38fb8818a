"""The train data loader that `verl_trainer.py` gives to verl: rows that the curriculum draws.

It stands where verl has torchdata's `StatefulDataLoader`, and is asked for the same: an iterator,
a state for `data.pt`, and that state back. It never ends, and never looks ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from etude_proto.v1 import TaskCreate

from ..curriculum import Batch, Curriculum, CurriculumState, Item
from .rows import ColumnFault, tasks_of

Row = Mapping[str, object]
STATE_KEY = "etude"
"""The curriculum's half, in the loader's state."""
NUM_ROLLOUTS = "__rollout_n__"
"""Column by which verl's agent loops are told how many rollouts a prompt gets."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A task that was given to the trainer."""

    batch: Batch
    item: Item


class CurriculumLoader:
    """Batches of rows, drawn when they are asked for.

    Args:
        curriculum: what draws.
        dataset: the trainer's rows.
        batch_size: rows at a time.
        collate: verl's: rows as columns.
        before_saving: called before the state is taken.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        dataset: Sequence[Row],
        *,
        batch_size: int,
        collate: Callable[[list[Row]], dict[str, object]],
        before_saving: Callable[[], object],
    ) -> None:
        self._curriculum = curriculum
        self._dataset = dataset
        self._batch_size = batch_size
        self._collate = collate
        self._before_saving = before_saving
        self._queue: deque[Drawn] = deque()
        self._given: list[Drawn] = []
        self._has_budget = curriculum.run.resolved.budget is not None
        self.num_wanted = batch_size
        """Rows that will be asked for: drawn with one call."""
        self.is_restored = False
        """Whether the curriculum was taken back to a checkpoint's step."""

    def __iter__(self) -> Self:
        return self

    def __len__(self) -> int:
        return max(1, len(self._dataset) // self._batch_size)

    def __next__(self) -> dict[str, object]:
        missing = max(self.num_wanted, self._batch_size) - len(self._queue)
        if len(self._queue) < self._batch_size:
            batch = self._curriculum.next_batch(missing, whole=True)
            self._queue.extend(Drawn(batch, item) for item in batch)
        taken = [self._queue.popleft() for _ in range(self._batch_size)]
        self._given += taken
        return self._collate([self._row(one.item) for one in taken])

    def _row(self, item: Item) -> Row:
        row = self._dataset[_index(item)]
        if not self._has_budget:
            return row
        if item.prompt is not None and item.prompt.screen is not None:
            raise ValueError(
                "the curriculum's budget asks for rollouts in two phases, and verl makes them in "
                "one: choose another"
            )
        return {**row, NUM_ROLLOUTS: item.num_rollouts}

    def take(self) -> list[Drawn]:
        """What was given since the last call, in order."""
        given, self._given = self._given, []
        return given

    def state_dict(self) -> dict[str, object]:
        """What verl writes to `data.pt`; takes a curriculum checkpoint of the step."""
        self._before_saving()
        return {STATE_KEY: self._curriculum.state_dict()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take the curriculum back to the step of a checkpoint.

        Raises:
            ValueError: the checkpoint has no curriculum, or one of another run.
        """
        kept = state.get(STATE_KEY)
        if not isinstance(kept, dict):
            raise ValueError(
                "the checkpoint's data.pt was saved without a curriculum: begin a new one "
                "(trainer.resume_mode=disable), or go on without the curriculum"
            )
        self._queue.clear()
        self._given.clear()
        self.is_restored = True
        self._curriculum.load_state_dict(CurriculumState(**kept))  # type: ignore[typeddict-item]


def tasks_in(
    dataset: Sequence[Row], *, subtasks: Sequence[str], source: str | None
) -> list[TaskCreate]:
    """The rows of one of verl's data sets as tasks.

    Raises:
        ColumnFault: a row has no text to tell it by; which, and why, is said.
    """
    return tasks_of(_Texts(dataset), prompt="raw_prompt", subtasks=subtasks, source=source)


class _Texts(Sequence[Row]):
    """Rows, refused if they hold more than text: a task is known by its text."""

    def __init__(self, dataset: Sequence[Row]) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]  # never asked for slices
        row = self._dataset[index]
        for turn in _turns(row.get("raw_prompt")):
            parts = turn.get("content")
            for part in parts if isinstance(parts, list) else ():
                kind = part.get("type") if isinstance(part, Mapping) else None
                if kind != "text":
                    raise ColumnFault(
                        f"row {index} of data.train_files holds a part of type {kind!r}: a task "
                        "is known by its text, so that rows must be text only"
                    )
        return row


def _turns(prompt: object) -> list[Mapping[str, object]]:
    if isinstance(prompt, str) or not isinstance(prompt, Iterable):
        return []
    return [turn for turn in prompt if isinstance(turn, Mapping)]


def _index(item: Item) -> int:
    if item.index is None:
        raise ValueError(
            "the run holds tasks that are not in data.train_files: give another run's name "
            "(sampler_kwargs.run)"
        )
    return item.index
