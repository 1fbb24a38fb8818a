"""The trainer's own data beside the sampler's: which row is which task.

A task's id is a hash of its content, so both sides know it without being told. `session.py` reads
rows, `drawing.py` finds them by id and draws among them while the sampler is away. They are held
once, as the lines that the sampler gets; what a row may be is `etude_client.sources`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from etude_proto.v1 import Split, Task, TaskCreate, task_id

from .batch import Item

if TYPE_CHECKING:
    from etude_proto.rows.columns import Columns

    from ..sources.reading import Source

TaskLike = TaskCreate | Mapping[str, object]
"""A task, its fields, or a row of a known shape or of mapped columns."""


class Rows:
    """Tasks in the order of the trainer's rows.

    Args:
        tasks: one a row; they are not kept.
    """

    def __init__(self, tasks: Iterable[TaskCreate]) -> None:
        self._lines: list[bytes] = []
        self._ids: list[str] = []
        self._by_id: dict[str, int] = {}
        self._drawable: list[int] = []
        for index, task in enumerate(tasks):
            name = task_id(task)
            self._lines.append(line_of(task))
            self._ids.append(name)
            if name not in self._by_id:
                self._by_id[name] = index
                if task.split is Split.TRAIN:
                    self._drawable.append(index)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def lines(self) -> Sequence[bytes]:
        """The tasks as lines of an import; empty after `forget`."""
        return self._lines

    @property
    def num_different(self) -> int:
        """Tasks that the rows make."""
        return len(self._by_id)

    @property
    def num_drawable(self) -> int:
        """Those of them that may be practised: not held out."""
        return len(self._drawable)

    @property
    def num_duplicates(self) -> int:
        """Rows whose content an earlier row has: they are never drawn."""
        return len(self._ids) - len(self._by_id)

    def forget(self) -> None:
        """Keep the ids only: for who never draws here."""
        self._lines = []

    def index(self, name: str) -> int | None:
        """The row of a task."""
        return self._by_id.get(name)

    def uniform(
        self, count: int, *, chance: random.Random, num_rollouts: int, without: Iterable[str] = ()
    ) -> list[Item]:
        """Rows drawn uniformly without replacement, as unleased items; fewer if there are fewer."""
        taken = set(without)
        rest = [index for index in self._drawable if self._ids[index] not in taken]
        return [
            Item(self._task(index), num_rollouts, index, lease=None, prompt=None)
            for index in chance.sample(rest, min(count, len(rest)))
        ]

    def _task(self, index: int) -> Task:
        task = TaskCreate.model_validate_json(self._lines[index])
        fields = task.model_dump(mode="json", exclude={"aids"})
        return Task.model_validate({"id": self._ids[index], "ordinal": index, **fields})


def read_rows(source: Source, columns: Columns | None = None, *, is_shown: bool = False) -> Rows:
    """The rows of a file, a data set or an iterable; see `etude_client.sources`.

    With `is_shown`, a terminal shows how far a long source is.

    Raises:
        ValueError: a row is no task, or has no shape that is known; row and column are named.
    """
    from ..sources.progress import ProgressLine  # not needed by who brings no rows
    from ..sources.reading import How, Reading

    reading = Reading(source, How(columns=columns))
    line = ProgressLine("reading", reading.count() if is_shown else None)

    def tasks() -> Iterator[TaskCreate]:
        for number, task in enumerate(reading.tasks(), start=1):
            yield task
            if is_shown and number % 256 == 0:
                line(number)

    try:
        return Rows(tasks())
    finally:
        line.close()


def line_of(task: TaskCreate) -> bytes:
    """A task as a line of an import, without the fields that say nothing."""
    unsaid = {name for name, default in _UNSAID.items() if getattr(task, name) == default}
    return task.model_dump_json(exclude=unsaid).encode()


_UNSAID = {
    name: field.get_default(call_default_factory=True)
    for name, field in TaskCreate.model_fields.items()
    if not field.is_required()
}
"""Fields that may be left out, with what they then are."""
