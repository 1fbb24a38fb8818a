"""Rows for TRL's data loader, drawn by the curriculum; `trl.py` puts it into a trainer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.utils.data import Sampler

from etude_proto.v1 import Run

from ..curriculum import Batch, Curriculum
from .sampler import check_run

if TYPE_CHECKING:
    from trl import GRPOTrainer


@dataclass(frozen=True, slots=True)
class Shape:
    """What one generation of a trainer takes."""

    num_tasks: int
    group_size: int
    num_repeats: int
    """Times that the data loader must name a generation batch: once a backward pass."""

    @classmethod
    def of(cls, trainer: GRPOTrainer) -> Shape:
        """That of a trainer."""
        args = trainer.args
        return cls(
            num_tasks=args.generation_batch_size // trainer.num_generations,
            group_size=trainer.num_generations,
            num_repeats=trainer.num_iterations * args.steps_per_generation,
        )


def check_fit(run: Run, shape: Shape) -> None:
    """Refuse, before anything is trained, a run that the trainer cannot follow.

    Raises:
        ValueError: groups of another size, a budget of rollouts, or fewer tasks than the data
            loader, which looks one batch ahead, holds at a time.
    """
    # The data loader holds two batches: it looks one ahead.
    check_run(run, group_size=shape.group_size, num_held=2 * shape.num_tasks)


class CurriculumSampler(Sampler[int]):
    """Rows in the order in which TRL's own sampler gives them, chosen by the curriculum.

    An epoch is as long as TRL's: as many batches as the data set holds, whatever they hold.
    """

    def __init__(self, curriculum: Curriculum, shape: Shape, num_rows: int) -> None:
        self._curriculum = curriculum
        self._shape = shape
        self._num_batches = max(1, num_rows // shape.num_tasks)
        self.drawn: deque[Batch] = deque()
        """Batches that were given to the data loader and not yet generated: it looks ahead."""

    def __len__(self) -> int:
        shape = self._shape
        return self._num_batches * shape.num_tasks * shape.group_size * shape.num_repeats

    def __iter__(self) -> Iterator[int]:
        shape = self._shape
        for _ in range(self._num_batches):
            batch = self._curriculum.next_batch(shape.num_tasks, whole=True)
            rows = [_row(item.index, item.num_rollouts, shape) for item in batch]
            self.drawn.append(batch)
            for _ in range(shape.num_repeats):
                for row in rows:
                    yield from [row] * shape.group_size


def _row(index: int | None, num_rollouts: int, shape: Shape) -> int:
    if index is None:
        raise ValueError(
            "the run holds tasks that are not in the trainer's data set: give another run's name"
        )
    if num_rollouts != shape.group_size:
        raise ValueError(
            f"the curriculum asks for {num_rollouts} rollouts of a task, and GRPOTrainer makes "
            f"{shape.group_size} of each: choose one without a budget"
        )
    return index
