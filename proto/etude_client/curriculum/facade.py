"""`Curriculum`: what to practise next, and what came of it, in a few lines of a trainer.

On top of the client's operations: leases that stay alive, reports that arrive, versions, and
checkpoints that go with the trainer's. The parts, outermost first: `facade` > `session` (a run in a
process) > `local`, `opening` (where the run comes from) > `drawing` (batches), `state`
(checkpoints) > `live` (this process's connections) > `outbox` (reports under way), `keeping`
(leases) > `entries`, `reporting`, `rows`, `batch`, `rollouts`, `ranks` (data).
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence

from etude_proto.v1 import CurriculumView, Lease, PolicyVersionRequest, ReleaseRequest

from ..errors import EtudeError
from . import session
from .batch import Batch
from .drawing import Want
from .entries import Delivery, Entry
from .live import Live
from .ranks import on_first
from .reporting import entries_of, part_of, parts_of
from .rollouts import Scored
from .session import Session
from .state import CurriculumState, restore, save

logger = logging.getLogger("etude_client")


class Curriculum(Session):
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

    def next_batch(
        self, num_tasks: int, *, whole: bool = False, timeout_s: float | None = None
    ) -> Batch:
        """Lease the tasks to practise next; their leases stay alive until they are reported.

        What is never reported must be released, or drawn by `lease`: else it is held for `hold_s`.

        Args:
            num_tasks: at most so many, at least one.
            whole: exactly so many, for trainers of fixed batches.
            timeout_s: longest wait; default: as long as it takes.

        Raises:
            NothingToPractise: nothing within `timeout_s`.
            DeliveryFailed: an earlier report was refused.
            ValueError: the run can never lease so many.
        """
        return self._next(num_tasks, whole, timeout_s, threading.Event())

    @contextlib.contextmanager
    def lease(
        self, num_tasks: int, *, whole: bool = False, timeout_s: float | None = None
    ) -> Iterator[Batch]:
        """As `next_batch`, for one block: `with curriculum.lease(8) as batch`.

        What the block does not report, because it fails or leaves it out, is given back.
        """
        with self.hold(self.next_batch(num_tasks, whole=whole, timeout_s=timeout_s)) as batch:
            yield batch

    @contextlib.contextmanager
    def hold(self, batch: Batch) -> Iterator[Batch]:
        """Keep a batch's leases alive in this process, for one block, whoever drew it.

        For batches of data-loader workers, which may be gone before their batches are reported.
        What the block does not report, because it fails or leaves it out, is given back.
        """
        if self.ranks.rank != 0:
            yield batch
            return
        keeper = self._here().keeper
        for lease in batch.leases:
            keeper.keep(lease, batch.tasks_of(lease), is_fresh=False)
        try:
            yield batch
        except BaseException:
            with contextlib.suppress(EtudeError):  # the block's own error is the one to see
                self._give_back(batch.leases)
            raise
        self._give_back(batch.leases)

    def _next(
        self, num_tasks: int, whole: bool, timeout_s: float | None, stop: threading.Event
    ) -> Batch:
        most = min(self.run.limits.cap_in(self.run.mode), self.run.num_tasks)
        if num_tasks < 1 or (whole and num_tasks > most):
            raise ValueError(
                f"{num_tasks} tasks a batch: the run {self.run.name!r} can lease 1 to {most} at a "
                "time (its number of tasks, and its limit cap_groups)"
            )
        want = Want(num_tasks, whole, timeout_s, stop)
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
            groups: by task id, the rollouts that this rank made, see `Scored`. A task with none
                is not reported. One that was reported before counts as it was then.
            policy_version: that made them; default: the newest one of this process.

        Returns:
            The delivery, for whoever wants the receipt; on ranks other than 0 one of nothing.

        Raises:
            KeyError: a task is not in the batch.
            ValueError: an outcome makes no sense.
            DeliveryFailed: an earlier report was refused.
        """
        mine = part_of(batch, groups)
        parts = parts_of(mine, self.ranks.gather(mine))
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
            live.keeper.reported(entry.lease_id, entry.task_ids)
        return Delivery(entries)

    def step(
        self, *, metrics: Mapping[str, float] | None = None, weights_uri: str | None = None
    ) -> int:
        """Announce that the policy was updated; delivered in the background, in order, once.

        Args:
            metrics: at most 64 scalars of the step, kept in the run's history; one that is not
                finite is left out.
            weights_uri: where the weights are, if others should know.

        Returns:
            The new policy version.

        Raises:
            ValueError: metrics that are no numbers, or too many.
            DeliveryFailed: an earlier report was refused.
        """
        with session._guard:
            request = PolicyVersionRequest(
                policy_version=self._version + 1,
                metrics=_finite(metrics or {}),
                weights_uri=weights_uri,
            )
            if self.ranks.rank == 0:
                self._here().outbox.put(Entry(request, uuid.uuid4().hex))
            self._version += 1
            return self._version

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is delivered; False if that takes longer than `timeout_s`."""
        return on_first(self.ranks, lambda: self._here().outbox.flush(timeout_s))

    def release(self, batch: Batch | None = None) -> None:
        """Give back what was not reported, of one batch or of all that this process holds."""
        if self.ranks.rank == 0:
            live = self._here()
            held = live.keeper.open()
            mine = {lease.id for lease in (held if batch is None else batch.leases)}
            _release(live, [lease for lease in held if lease.id in mine])
            live.outbox.flush(self._chosen.patience_s)

    def view(self) -> CurriculumView:
        """The state of the curriculum now: mastery, slots, control arm."""
        return on_first(self.ranks, lambda: self._here().client.get_curriculum(self.run.id))

    def state_dict(self) -> CurriculumState:
        """What goes into the trainer's checkpoint; takes a curriculum checkpoint of this step.

        A sampler that is away is waited for, up to an hour; with `on_outage="uniform"` up to
        `patience_s`. Then the state holds what was not delivered instead, and can be resumed
        from only as long as the run does not go on.
        """
        patience_s = self._chosen.save_patience_s
        return on_first(self.ranks, lambda: save(self._here(), self._version, patience_s))

    def load_state_dict(self, state: CurriculumState) -> None:
        """Take the run back to the step of a trainer's checkpoint.

        What was leased or reported after it is void, and kept as such: nothing counts twice.

        Raises:
            ValueError: the state is of another run, or its curriculum checkpoint is gone.
        """
        self._version = on_first(self.ranks, lambda: restore(self._here(), state))

    def _give_back(self, leases: Sequence[Lease]) -> None:
        live = self._here()
        left = {lease.id: live.keeper.num_left(lease.id) for lease in leases}
        if any(left.values()):
            logger.warning("%d leased tasks were not reported: given back", sum(left.values()))
            _release(live, [lease for lease in leases if left[lease.id]])


def _release(live: Live, leases: Sequence[Lease]) -> None:
    """Give back what is left of leases, after what was reported before."""
    for lease in leases:
        live.outbox.put(Entry(ReleaseRequest(fence=lease.fence), uuid.uuid4().hex, lease.id))


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    values = {name: float(value) for name, value in metrics.items()}
    odd = [name for name, value in values.items() if not math.isfinite(value)]
    if odd:
        logger.warning("metrics that are not finite are left out: %s", ", ".join(odd))
    return {name: value for name, value in values.items() if math.isfinite(value)}
