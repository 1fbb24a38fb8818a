"""`Curriculum`: what to practise next, and what came of it, in a few lines of a trainer.

Over 300 lines: one class is the public surface, and most of it says what a call does.

On top of the client's operations: leases that stay alive, reports that arrive, versions, and
checkpoints that go with the trainer's. The parts, outermost first: `facade` > `local`, `opening`
(where the run comes from) > `drawing` (batches), `state` (checkpoints) > `live` (this process's
connections) > `outbox` (reports under way), `keeping` (leases) > `reporting`, `rows`, `batch`,
`rollouts`, `ranks` (data).
"""

from __future__ import annotations

import contextlib
import os
import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from etude_proto.v1 import CurriculumConfig, CurriculumView, PolicyVersionRequest, Run

from ..errors import EtudeError
from .batch import Batch
from .drawing import Drawer, Want
from .live import Live, Status
from .local import LocalSampler, start_local
from .opening import RunPlan, opened
from .options import Options, chosen
from .outbox import Delivery, Entry
from .ranks import find_ranks, on_first
from .reporting import entries_of, made_of
from .rollouts import Scored
from .rows import Rows, TaskLike, read_tasks
from .state import CurriculumState, restore, save


class Curriculum:
    """Batches from a sampler's run, and reports to it.

    Every rank of a multi-process trainer makes the same calls in the same order: rank 0 talks, the
    others get what it was told. It may be pickled and forked into data-loader workers; each
    process has connections of its own.

    Args:
        run: name or id of the run.
        url: of a sampler; default `ETUDE_SAMPLER_URL`, or the port of `etude serve`.
        tasks: the trainer's own rows, as tasks or their fields, so that `Item.index` says which
            row a task is, and so that `on_outage="uniform"` has something to draw.
        options: see `Options`.

    Raises:
        ValueError: there is no such run, or the arguments make no sense.
        EtudeError: the sampler is away or refuses.
    """

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
        self.rows = None if tasks is None else Rows(read_tasks(tasks))
        self._chosen = chosen(url, options, has_rows=self.rows is not None)
        self.run: Run = on_first(self.ranks, lambda: opened(self._chosen, run, plan, self.rows))
        """The run as it was when this was made."""
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

    def next_batch(
        self, num_tasks: int, *, whole: bool = False, timeout_s: float | None = None
    ) -> Batch:
        """Lease the tasks to practise next; their leases stay alive until they are reported.

        Args:
            num_tasks: at most so many, at least one.
            whole: exactly so many, for trainers of fixed batches.
            timeout_s: longest wait; default: as long as it takes.

        Raises:
            NothingToPractise: nothing within `timeout_s`.
            DeliveryFailed: an earlier report was refused.
            ValueError: the run can never lease so many.
        """
        most = min(self.run.limits.cap_in(self.run.mode), self.run.num_tasks)
        if num_tasks < 1 or (whole and num_tasks > most):
            raise ValueError(
                f"{num_tasks} tasks a batch: the run {self.run.name!r} can lease 1 to {most} at a "
                "time (its number of tasks, and its limit cap_groups)"
            )
        want = Want(num_tasks, whole, timeout_s)
        return on_first(self.ranks, lambda: self._drawing().draw(want))

    def report(
        self,
        batch: Batch,
        groups: Mapping[str, Sequence[Scored]],
        *,
        policy_version: int | None = None,
    ) -> Delivery:
        """Tell what became of a batch's tasks; delivered in the background, in order, once.

        Args:
            batch: that holds the tasks; also one that another process leased.
            groups: by task id, the rollouts that this rank made. See `Scored`.
            policy_version: that made them; default: the newest one of this process.

        Returns:
            The delivery, for whoever wants the receipt; on ranks other than 0 one of nothing.

        Raises:
            KeyError: a task is not in the batch.
            ValueError: an outcome makes no sense.
            DeliveryFailed: an earlier report was refused.
        """
        parts = self.ranks.gather(made_of(batch, groups))
        if not parts:
            return Delivery([])
        live = self._here()
        version = max(batch.policy_version, self._version)
        entries, num_alone = entries_of(
            batch,
            parts,
            worker=live.worker,
            version=version if policy_version is None else policy_version,
        )
        self._num_alone += num_alone
        for entry in entries:
            live.outbox.put(entry)
        return Delivery(entries)

    def step(
        self, *, metrics: Mapping[str, float] | None = None, weights_uri: str | None = None
    ) -> int:
        """Announce that the policy was updated; delivered in the background, in order, once.

        Args:
            metrics: scalars of the step, kept in the run's history.
            weights_uri: where the weights are, if others should know.

        Returns:
            The new policy version.
        """
        self._version += 1
        if self.ranks.rank == 0:
            request = PolicyVersionRequest(
                policy_version=self._version, metrics=dict(metrics or {}), weights_uri=weights_uri
            )
            self._here().outbox.put(Entry(request, uuid.uuid4().hex))
        return self._version

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is delivered; False if that takes longer than `timeout_s`."""
        return on_first(self.ranks, lambda: self._here().outbox.flush(timeout_s))

    def release(self, batch: Batch | None = None) -> None:
        """Give back what was not reported, of one batch or of all that this process holds."""
        if self.ranks.rank == 0:
            live = self._here()
            live.outbox.flush(self._chosen.patience_s)
            held = live.keeper.open()
            mine = {lease.id for lease in (held if batch is None else batch.leases)}
            live.release([lease for lease in held if lease.id in mine])

    def view(self) -> CurriculumView:
        """The state of the curriculum now: mastery, slots, control arm."""
        return on_first(self.ranks, lambda: self._here().client.get_curriculum(self.run.id))

    def state_dict(self) -> CurriculumState:
        """What goes into the trainer's checkpoint; takes a curriculum checkpoint of this step.

        While the sampler is away, it holds what was not delivered instead.
        """
        patience_s = self._chosen.patience_s
        return on_first(self.ranks, lambda: save(self._here(), self._version, patience_s))

    def load_state_dict(self, state: CurriculumState) -> None:
        """Take the run back to the step of a trainer's checkpoint.

        What was leased or reported after it is void, and kept as such: nothing counts twice.

        Raises:
            ValueError: the state is of another run, or its curriculum checkpoint is gone.
        """
        self._version = on_first(self.ranks, lambda: restore(self._here(), state))

    def close(self) -> None:
        """Deliver what is under way, give leases back, stop."""
        if self._live is not None and self._live.pid == os.getpid():
            with contextlib.suppress(EtudeError):
                self.release()
            self._live.close()
            self._live = None
        if self._server is not None:
            self._server.stop()
            self._server = None

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

    def _here(self) -> Live:
        if self._live is None or self._live.pid != os.getpid():
            self._live = Live(self.run.id, self._chosen)
            self._drawer = None
        return self._live

    def _drawing(self) -> Drawer:
        live = self._here()
        if self._drawer is None:
            chance = random.Random(f"{self.run.seed} {self._version} {live.worker}")
            self._drawer = Drawer(live, self.rows, self.group_size, chance, self._chosen)
        return self._drawer
