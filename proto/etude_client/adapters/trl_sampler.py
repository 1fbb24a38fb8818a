"""Rows for TRL's data loader, drawn by the curriculum; `trl.py` puts it into a trainer."""

from __future__ import annotations

import math
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


PREFETCH = 2
"""Batches that a loader's worker makes ahead, unless the trainer's arguments say otherwise."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What one generation of a trainer takes, and how far its data loader is ahead of it."""

    num_tasks: int
    group_size: int
    num_repeats: int
    """Times that the data loader must name a generation batch: once a backward pass."""
    num_rows: int
    """Of the data set."""
    num_taken: int = 2
    """Loader batches that are taken before the first of them is generated: those of an optimizer
    step, one that is looked ahead, and what the loader's workers make ahead of that."""

    @property
    def num_batches(self) -> int:
        """Generation batches of an epoch."""
        return max(1, self.num_rows // self.num_tasks)

    @property
    def num_held(self) -> int:
        """Generation batches that are held at a time; no epoch is looked into ahead."""
        return min(math.ceil(self.num_taken / self.num_repeats), self.num_batches)

    @classmethod
    def of(cls, trainer: GRPOTrainer) -> Shape:
        """That of a trainer."""
        args = trainer.args
        prefetch = args.dataloader_prefetch_factor or PREFETCH
        ahead = 1 + args.dataloader_num_workers * prefetch
        return cls(
            num_tasks=args.generation_batch_size // trainer.num_generations,
            group_size=trainer.num_generations,
            num_repeats=trainer.num_iterations * args.steps_per_generation,
            num_rows=len(trainer.train_dataset),
            num_taken=args.gradient_accumulation_steps + ahead,
        )


def check_fit(run: Run, shape: Shape) -> None:
    """Refuse, before anything is trained, a run that the trainer cannot follow.

    Raises:
        ValueError: groups of another size, a budget of rollouts, or fewer tasks than the data
            loader, which looks ahead, holds at a time.
    """
    held, size = shape.num_held, shape.group_size
    check_run(run, group_size=size, num_held=shape.num_tasks)
    try:
        check_run(run, group_size=size, num_held=held * shape.num_tasks, num_leases=held)
    except ValueError as error:
        raise ValueError(
            f"{error}; the data loader takes {shape.num_taken} batches before the first is "
            f"reported, {held} generations' worth: a larger steps_per_generation or fewer "
            "gradient_accumulation_steps, and no dataloader_num_workers, hold less"
        ) from error


class CurriculumSampler(Sampler[int]):
    """Rows in the order in which TRL's own sampler gives them, chosen by the curriculum.

    An epoch is as long as TRL's: as many batches as the data set holds, whatever they hold.
    """

    def __init__(self, curriculum: Curriculum, shape: Shape) -> None:
        self._curriculum = curriculum
        self._shape = shape
        self.drawn: deque[Batch] = deque()
        """Batches that were given to the data loader and not yet generated: it looks ahead."""

    def __len__(self) -> int:
        shape = self._shape
        return shape.num_batches * shape.num_tasks * shape.group_size * shape.num_repeats

    def __iter__(self) -> Iterator[int]:
        shape = self._shape
        for _ in range(shape.num_batches):
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
