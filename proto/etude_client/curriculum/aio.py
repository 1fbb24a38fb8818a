"""`AsyncCurriculum`: the twin of `Curriculum` for code with an event loop.

Every call that may wait for the sampler runs in a thread; `report` and `step` hand over at once.
A call that is cancelled gives back what it leased.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from etude_proto.v1 import CurriculumConfig, CurriculumView, Receipt, Run

from .batch import Batch
from .entries import Delivery
from .facade import Curriculum
from .live import Status
from .options import Options
from .rollouts import Scored
from .rows import TaskLike
from .state import CurriculumState
from .waiting import in_thread


class AsyncCurriculum:
    """A `Curriculum` whose calls are awaited.

    Args:
        curriculum: what it stands for; `open`, `create` and `local` make one without blocking.
    """

    def __init__(self, curriculum: Curriculum) -> None:
        self.sync = curriculum

    @classmethod
    async def open(
        cls,
        run: str,
        url: str | None = None,
        *,
        tasks: str | Path | Iterable[TaskLike] | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """As `Curriculum`, which cannot be awaited."""
        return cls(await in_thread(lambda: Curriculum(run, url, tasks=tasks, **options)))

    @classmethod
    async def create(
        cls,
        run: str,
        tasks: str | Path | Iterable[TaskLike],
        url: str | None = None,
        *,
        preset: str | CurriculumConfig = "dscl",
        group_size: int = 8,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> Self:
        """As `Curriculum.create`."""
        return cls(
            await in_thread(
                lambda: Curriculum.create(
                    run, tasks, url, preset=preset, group_size=group_size, seed=seed, **options
                )
            )
        )

    @classmethod
    async def local(
        cls,
        tasks: str | Path | Iterable[TaskLike],
        *,
        run: str = "local",
        directory: str | Path = ".etude",
        preset: str | CurriculumConfig = "dscl",
        group_size: int = 8,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> Self:
        """As `Curriculum.local`."""
        return cls(
            await in_thread(
                lambda: Curriculum.local(
                    tasks,
                    run=run,
                    directory=directory,
                    preset=preset,
                    group_size=group_size,
                    seed=seed,
                    **options,
                )
            )
        )

    @property
    def run(self) -> Run:
        """The run as it was when this was made."""
        return self.sync.run

    @property
    def group_size(self) -> int:
        """Rollouts a task, unless the run's budget says otherwise."""
        return self.sync.group_size

    @property
    def url(self) -> str:
        """Where the sampler is."""
        return self.sync.url

    @property
    def policy_version(self) -> int:
        """Updates of the policy that were announced so far."""
        return self.sync.policy_version

    @property
    def status(self) -> Status:
        """What became of the calls of this process so far."""
        return self.sync.status

    async def next_batch(
        self, num_tasks: int, *, whole: bool = False, timeout_s: float | None = None
    ) -> Batch:
        """As `Curriculum.next_batch`."""
        stop = threading.Event()
        try:
            return await in_thread(
                lambda: self.sync._next(num_tasks, whole, timeout_s, stop),
                unwanted=self.sync.release,
            )
        except asyncio.CancelledError:
            stop.set()
            raise

    @contextlib.asynccontextmanager
    async def lease(
        self, num_tasks: int, *, whole: bool = False, timeout_s: float | None = None
    ) -> AsyncIterator[Batch]:
        """As `Curriculum.lease`: `async with curriculum.lease(8) as batch`."""
        batch = await self.next_batch(num_tasks, whole=whole, timeout_s=timeout_s)
        with self.sync.hold(batch):
            yield batch

    @contextlib.asynccontextmanager
    async def hold(self, batch: Batch) -> AsyncIterator[Batch]:
        """As `Curriculum.hold`."""
        with self.sync.hold(batch):
            yield batch

    def report(
        self,
        batch: Batch,
        groups: Mapping[str, Sequence[Scored]],
        *,
        policy_version: int | None = None,
    ) -> Delivery:
        """As `Curriculum.report`; it does not wait, `receipts` does."""
        return self.sync.report(batch, groups, policy_version=policy_version)

    @staticmethod
    async def receipts(delivery: Delivery, timeout_s: float | None = None) -> list[Receipt]:
        """As `Delivery.receipts`."""
        return await in_thread(lambda: delivery.receipts(timeout_s))

    def step(
        self, *, metrics: Mapping[str, float] | None = None, weights_uri: str | None = None
    ) -> int:
        """As `Curriculum.step`; it does not wait."""
        return self.sync.step(metrics=metrics, weights_uri=weights_uri)

    async def flush(self, timeout_s: float | None = None) -> bool:
        """As `Curriculum.flush`."""
        return await in_thread(lambda: self.sync.flush(timeout_s))

    async def release(self, batch: Batch | None = None) -> None:
        """As `Curriculum.release`."""
        await in_thread(lambda: self.sync.release(batch))

    async def view(self) -> CurriculumView:
        """As `Curriculum.view`."""
        return await in_thread(self.sync.view)

    async def state_dict(self) -> CurriculumState:
        """As `Curriculum.state_dict`."""
        return await in_thread(self.sync.state_dict)

    async def load_state_dict(self, state: CurriculumState) -> None:
        """As `Curriculum.load_state_dict`."""
        await in_thread(lambda: self.sync.load_state_dict(state))

    async def close(self) -> None:
        """As `Curriculum.close`."""
        await in_thread(self.sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
