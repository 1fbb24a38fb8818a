"""A run as one process works on it: found or made, its connections here, and their end.

`facade.py` adds what a trainer calls; `live.py` is what each process has of its own.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from etude_proto.v1 import CurriculumConfig, Run

from ..errors import Unreachable
from .drawing import Drawer
from .live import Live, Status
from .local import LocalSampler, start_local
from .opening import RunPlan, opened
from .options import Options, chosen
from .ranks import find_ranks, on_first
from .rows import TaskLike, read_rows

_guard = threading.RLock()
"""For the few statements that make or number what the threads of a process share."""


def _renew_guard() -> None:
    """Another thread of the parent may have held it when the child was forked."""
    global _guard
    _guard = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_guard)


class Session:
    """One run, and this process's connections to its sampler; see `Curriculum`."""

    def __init__(
        self,
        run: str,
        url: str | None = None,
        *,
        tasks: str | Path | Iterable[TaskLike] | None = None,
        plan: RunPlan | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.ranks = options.get("ranks") or find_ranks()
        is_first = self.ranks.rank == 0
        self.rows = (
            None if tasks is None else read_rows(tasks, options.get("columns"), is_shown=is_first)
        )
        self._chosen = chosen(url, options, has_rows=self.rows is not None)
        self.run: Run = on_first(self.ranks, lambda: self._find(run, plan))
        """The run as it was when this was made."""
        if self.rows is not None and self._chosen.on_outage == "wait":
            self.rows.forget()  # nothing is ever drawn here
        self._version = self.run.policy_version
        self._num_alone = 0
        self._live: Live | None = None
        self._drawer: Drawer | None = None
        self._server: LocalSampler | None = None

    @classmethod
    def create(
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
        """A run over tasks of one's own, made now unless there is one of this name and shape.

        Args:
            run: its name, and that of its dataset.
            tasks: rows, a JSONL file or an iterable; imported into the sampler.
            url: see `Curriculum`.
            preset: name of a curriculum (`etude strategies` lists them), or its parts.
            group_size: rollouts a task.
            seed: of all draws.
            options: see `Options`.

        Raises:
            ValueError: a row is no task, or a run of that name is of another shape.
        """
        config = (
            CurriculumConfig.model_validate({"preset": preset})
            if isinstance(preset, str)
            else preset
        )
        plan = RunPlan(run, config, group_size, seed)
        return cls(run, url, tasks=tasks, plan=plan, **options)

    @classmethod
    def local(
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
        """As `create`, with a sampler that is started here and ends with this process.

        Its data stay in `directory`: the same call goes on where the last one ended. Needs the
        package `etude-sampler` in the same environment. Rank 0 starts it.

        Raises:
            ValueError: see `create`; or `etude-sampler` is not installed.
            RuntimeError: the sampler does not start; its log is named.
        """
        ranks = options.get("ranks") or find_ranks()
        server: list[LocalSampler] = []

        def start() -> str:
            server.append(start_local(Path(directory)))
            return server[0].url

        url = on_first(ranks, start)
        try:
            made = cls.create(
                run, tasks, url, preset=preset, group_size=group_size, seed=seed, **options
            )
        except BaseException:
            for one in server:
                one.stop()
            raise
        made._server = server[0] if server else None
        return made

    @property
    def policy_version(self) -> int:
        """Updates of the policy that were announced so far."""
        return self._version

    @property
    def group_size(self) -> int:
        """Rollouts a task, unless the run's budget says otherwise."""
        return self.run.group_size

    @property
    def url(self) -> str:
        """Where the sampler is."""
        return self._chosen.url

    @property
    def status(self) -> Status:
        """What became of the calls of this process so far."""
        return self._here().status(num_alone=self._num_alone)

    def close(self) -> None:
        """Deliver what is under way, give leases back, stop; what cannot be delivered is said."""
        try:
            if self._live is not None and self._live.pid == os.getpid():
                self._live.close()
        finally:
            self._live = self._drawer = None
            server, self._server = self._server, None
            if server is not None:
                server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_live": None, "_drawer": None, "_server": None}

    def _find(self, run: str, plan: RunPlan | None) -> Run:
        try:
            return opened(self._chosen, run, plan, self.rows)
        except Unreachable as error:
            raise Unreachable(
                f"no sampler answers at {self._chosen.url}: start one with `etude serve`, or give "
                f"its url ({error})"
            ) from error

    def _here(self) -> Live:
        with _guard:
            if self._live is None or self._live.pid != os.getpid():
                self._live = Live(self.run.id, self._chosen)
                self._drawer = None
            return self._live

    def _drawing(self) -> Drawer:
        with _guard:
            live = self._here()
            if self._drawer is None:
                chance = random.Random(f"{self.run.seed} {self._version} {live.worker}")
                self._drawer = Drawer(live, self.rows, self.run, chance, self._chosen)
            return self._drawer
