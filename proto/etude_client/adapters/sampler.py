"""Rows of a trainer's data in the order of the curriculum, and their groups back to it.

What the adapters of trainers that pull prompts through a data loader or a source have in common:
`skyrl.py`, `openrlhf.py`, `nemo_rl.py`, `slime.py` and `prime_rl.py` are a few lines around it. It
has the interface of a stateful sampler (`iter`, `len`, `state_dict`, `load_state_dict`) and needs
no torch. One process calls it: the one in which the trainer draws and scores.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from etude_proto.v1 import CurriculumConfig, Run, TaskCreate

from ..curriculum import Batch, Curriculum, CurriculumState, Item, NothingToPractise, Scored
from ..curriculum.options import Options

MOST_METRICS = 64
"""Metrics that one policy version may carry."""


class SamplerState(TypedDict):
    """A place in an epoch, and the curriculum at that step; plain data."""

    num_given: int
    curriculum: CurriculumState | None
    """None where `saves` said that the trainer does not keep it."""


class CurriculumPlan(TypedDict, total=False):
    """Arguments that the adapters' `add_curriculum` share; see `Curriculum.create`."""

    url: str | None
    local: str | Path | None
    """Instead of a URL, a folder for a sampler that is started here."""
    preset: str | CurriculumConfig
    seed: int


def open_curriculum(
    run: str,
    tasks: Sequence[TaskCreate],
    plan: CurriculumPlan,
    *,
    group_size: int,
    **options: Unpack[Options],
) -> Curriculum:
    """The curriculum over a trainer's rows, from a sampler that runs or one that is started.

    Raises:
        ValueError: a row is no task, or a run of that name is of another shape.
        EtudeError: the sampler is away or refuses.
    """
    preset, seed, local = plan.get("preset", "dscl"), plan.get("seed", 0), plan.get("local")
    if local is not None:
        return Curriculum.local(
            tasks,
            run=run,
            directory=local,
            preset=preset,
            group_size=group_size,
            seed=seed,
            **options,
        )
    return Curriculum.create(
        run, tasks, plan.get("url"), preset=preset, group_size=group_size, seed=seed, **options
    )


def check_run(run: Run, *, group_size: int, num_held: int, num_leases: int = 1) -> None:
    """Refuse, before anything is trained, a run that a trainer of fixed groups cannot follow.

    Args:
        group_size: rollouts that the trainer makes of each prompt.
        num_held: prompts that it may have drawn and not yet reported.
        num_leases: draws that they may come from: each is a lease.

    Raises:
        ValueError: groups of another size, a budget of rollouts, fewer tasks than it holds, or
            fewer leases.
    """
    if run.group_size != group_size:
        raise ValueError(
            f"the run makes groups of {run.group_size}, the trainer of {group_size}: give another "
            "run's name, or change the trainer's rollouts a prompt"
        )
    if run.resolved.budget is not None:
        raise ValueError(
            f"the run's budget {run.resolved.budget.name!r} asks for other numbers of rollouts by "
            "task, and the trainer makes the same of each: choose a curriculum without a budget"
        )
    most = min(run.num_tasks, run.limits.cap_in(run.mode))
    if num_held > most:
        raise ValueError(
            f"the trainer holds up to {num_held} prompts at a time, and the run leases {most} at "
            "most (its number of tasks, and its limit cap_groups)"
        )
    if num_leases > run.limits.leases_per_worker:
        raise ValueError(
            f"the trainer holds up to {num_leases} draws at a time, and the run gives a worker "
            f"{run.limits.leases_per_worker} leases at most (its limit leases_per_worker)"
        )


def scalars(metrics: Mapping[str, object] | None) -> dict[str, float]:
    """The finite numbers of a step's metrics, as many as a version may carry."""
    found = {
        name: float(value)
        for name, value in (metrics or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return dict(list(found.items())[:MOST_METRICS])


class RowSampler:
    """Draws rows of `curriculum`, and reports their groups by row.

    Args:
        curriculum: made with the trainer's rows, so that every item has its row.
        num_rows: of the trainer's data; an epoch is as many whole batches as they make.
        batch_size: rows that the trainer takes for a step.
        chunk: rows that are leased in one call, at most; default: a batch.
        timeout_s: longest wait for a row; default: as long as it takes.
        saves: whether the trainer keeps the state that it asks for now: taking a curriculum
            checkpoint each time would be wasteful where it asks at every step.
        starts_anew: a state from the end of an epoch begins the next one, for trainers that count
            epochs by steps; otherwise it gives nothing, once, as loaders do.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        *,
        num_rows: int,
        batch_size: int,
        chunk: int | None = None,
        timeout_s: float | None = None,
        saves: Callable[[], bool] = lambda: True,
        starts_anew: bool = False,
    ) -> None:
        self.curriculum = curriculum
        self._batch_size = batch_size
        self._num_given = 0
        self._length = max(1, num_rows // batch_size) * batch_size
        self._chunk = chunk or batch_size
        self._timeout_s = timeout_s
        self._saves = saves
        self._starts_anew = starts_anew
        self._num_expected = 0
        self._held: dict[int, deque[tuple[Batch, Item]]] = {}

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        """Rows to the end of the epoch; a loaded state begins in its middle."""
        while self._num_given < self._length:
            rest = self._batch_size - self._num_given % self._batch_size
            wanted = self._num_expected or min(rest, self._chunk)
            rows = self.draw(min(wanted, self._length - self._num_given))
            self._num_expected = max(0, self._num_expected - len(rows))
            for row in rows:
                self._num_given += 1
                yield row
        self._num_given = 0
        self._num_expected = 0

    def expect(self, count: int) -> None:
        """So many rows will be asked for next: they are leased together, whatever the chunk."""
        self._num_expected = count

    @property
    def held(self) -> list[int]:
        """Rows that were drawn and neither reported nor given back."""
        return list(self._held)

    def draw(self, count: int) -> list[int]:
        """Lease up to `count` tasks, at least one, outside any epoch; their rows.

        Raises:
            NothingToPractise: none within the time that was given.
            ValueError: the run holds tasks that are not among the trainer's rows.
        """
        try:
            batch = self.curriculum.next_batch(count, timeout_s=self._timeout_s)
        except NothingToPractise as error:
            raise NothingToPractise(
                f"{error}; the trainer holds {len(self._held)} rows that it has not reported"
            ) from error
        rows = []
        for item in batch:
            if item.index is None:
                raise ValueError(
                    "the run holds tasks that are not in the trainer's data: give another run's "
                    "name"
                )
            self._held.setdefault(item.index, deque()).append((batch, item))
            rows.append(item.index)
        return rows

    def report(
        self, groups: Mapping[int, Sequence[Scored]], *, policy_version: int | None = None
    ) -> None:
        """Report finished groups by row, before anything filters them; delivered once.

        Args:
            policy_version: that made them; default: the newest one.

        Raises:
            KeyError: a row is not held: it was reported already, or never drawn.
        """
        parts: dict[int, tuple[Batch, dict[str, Sequence[Scored]]]] = {}
        for row, rollouts in groups.items():
            if row not in self._held:
                raise KeyError(f"row {row} was not drawn, or was reported already")
            batch, item = self._take(row)
            parts.setdefault(id(batch), (batch, {}))[1][item.task_id] = rollouts
        for batch, made in parts.values():
            self.curriculum.report(batch, made, policy_version=policy_version)

    def give_back(self, *, drawn_before: int | None = None, keep: Sequence[int] = ()) -> int:
        """Release rows that will not be reported; how many there were.

        Args:
            drawn_before: only those drawn at an older policy version.
            keep: rows that stay held, with everything that was drawn together with them.
        """
        kept = {id(batch) for row in keep for batch, _ in self._held.get(row, ())}
        left: list[Item] = []
        for row in list(self._held):
            stays: deque[tuple[Batch, Item]] = deque()
            for batch, item in self._held.pop(row):
                is_old = drawn_before is None or batch.policy_version < drawn_before
                if is_old and id(batch) not in kept:
                    left.append(item)
                else:
                    stays.append((batch, item))
            if stays:
                self._held[row] = stays
        if left:  # all at once: each call waits, while the sampler is away
            self.curriculum.release(Batch(tuple(left), self.curriculum.policy_version))
        return len(left)

    def step(self, metrics: Mapping[str, object] | None = None) -> int:
        """Announce an update of the policy; the new version. Of `metrics`, the finite numbers."""
        return self.curriculum.step(metrics=scalars(metrics))

    def check_step(self, trainer_step: int) -> None:
        """Refuse to go on if trainer and curriculum have made other numbers of steps.

        Raises:
            ValueError: they have; what to do is said.
        """
        ours = self.curriculum.policy_version
        if ours != trainer_step:
            raise ValueError(
                f"the run {self.curriculum.run.name!r} is at step {ours}, and the trainer at "
                f"{trainer_step}: resume both from one checkpoint, or give another run's name"
            )

    def state_dict(self) -> SamplerState:
        """For the trainer's checkpoint; takes a curriculum checkpoint if the trainer `saves`."""
        state = self.curriculum.state_dict() if self._saves() else None
        return SamplerState(num_given=self._num_given, curriculum=state)

    def load_state_dict(self, state: SamplerState) -> None:
        """Take the run back to a checkpoint's step; what was drawn after it is void.

        Raises:
            ValueError: the state holds no curriculum, or one of another run.
        """
        curriculum = state.get("curriculum")
        if curriculum is None:
            raise ValueError(
                "this checkpoint was saved without a curriculum: resume from another one, or "
                "begin a new run"
            )
        self.curriculum.load_state_dict(curriculum)
        self._held.clear()
        self._num_expected = 0
        self._num_given = state["num_given"]
        if self._starts_anew:
            self._num_given %= self._length

    def _take(self, row: int) -> tuple[Batch, Item]:
        waiting = self._held[row]
        first = waiting.popleft()
        if not waiting:
            del self._held[row]
        return first
