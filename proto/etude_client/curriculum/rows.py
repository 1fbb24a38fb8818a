"""The trainer's own data beside the sampler's: which row is which task.

A task's id is a hash of its content, so both sides know it without being told. `facade.py` finds
rows by it, and draws among them while the sampler is away.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from etude_proto.v1 import Split, Task, TaskCreate, task_id

from .batch import Item

TaskLike = TaskCreate | Mapping[str, object]
"""A task, or its fields."""


class Rows:
    """Tasks in the order of the trainer's rows.

    Args:
        tasks: one a row.
    """

    def __init__(self, tasks: Sequence[TaskCreate]) -> None:
        self.tasks = list(tasks)
        self._ids = [task_id(task) for task in self.tasks]
        self._by_id: dict[str, int] = {}
        for index, name in enumerate(self._ids):
            self._by_id.setdefault(name, index)
        self._drawable = [
            index for index in self._by_id.values() if self.tasks[index].split is Split.TRAIN
        ]

    @property
    def num_duplicates(self) -> int:
        """Rows whose content an earlier row has: they are never drawn."""
        return len(self._ids) - len(self._by_id)

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
        fields = self.tasks[index].model_dump(mode="json", exclude={"aids"})
        return Task.model_validate({"id": self._ids[index], "ordinal": index, **fields})


def read_tasks(source: str | Path | Iterable[TaskLike]) -> list[TaskCreate]:
    """Tasks of a JSONL file or of an iterable.

    Raises:
        ValueError: a row is not a task; row and field are named.
        OSError: the file cannot be read.
    """
    if isinstance(source, str | Path):
        with Path(source).open(encoding="utf-8") as file:
            return [
                _task(line, f"{source}, line {number}")
                for number, line in enumerate(file, start=1)
                if line.strip()
            ]
    return [_task(row, f"row {number}") for number, row in enumerate(source)]


def _task(row: TaskLike | str, where: str) -> TaskCreate:
    if isinstance(row, TaskCreate):
        return row
    try:
        fields = json.loads(row) if isinstance(row, str) else dict(row)
        return TaskCreate.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {field}: {first['msg']}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error}") from error
