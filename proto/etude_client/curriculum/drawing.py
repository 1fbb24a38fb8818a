"""One batch: leases until enough tasks are held, or rows of the trainer's own while there is no
sampler.

`facade.py` calls `draw` on rank 0. Waiting is bounded by the caller's patience only: a paused run
or a full queue is nothing wrong.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from dataclasses import dataclass, field

from etude_proto.v1 import DegradedReason, PromptBatch, PromptBatchRequest, Run

from ..errors import EtudeError
from .away import REMIND_S, is_away
from .batch import Batch, Item
from .live import Live
from .options import Chosen
from .rows import Rows

logger = logging.getLogger("etude_client")

POLL_S = 2.0
"""Long poll of one lease call (our choice)."""
LOOK_S = 0.1
"""Seconds between two looks at whether the sampler went away (our choice)."""
RETRY_S = 1.0
"""Seconds between two attempts to reach a sampler that is away (our choice)."""
RETRY_SHARE = 3.0
"""The same while this client draws by itself, in lengths of the last attempt: one that hangs must
not cost every batch its time (our choice)."""
LEAST_CALL_S = 5.0
"""A call is given at least so long before the sampler counts as away (our choice)."""


class NothingToPractise(EtudeError):
    """No task could be had within the time that was given."""


@dataclass(frozen=True, slots=True)
class Want:
    """A batch that is asked for."""

    num_tasks: int
    whole: bool
    """Whether fewer tasks are no use."""
    timeout_s: float | None
    """Longest wait; None: as long as it takes."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set by whoever does not want it any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A lease call, as often as it is sent."""

    request: PromptBatchRequest
    key: str


@dataclass(slots=True)
class Drawer:
    """Draws batches for one run."""

    live: Live
    rows: Rows | None
    run: Run
    chance: random.Random
    options: Chosen
    policy_version: int = 0
    _retry_s: float = 0.0
    """When a sampler that is away is asked again, while this client draws by itself."""
    _num_alone: int = 0
    """Tasks that this client drew since it last got some."""
    _said_s: float = 0.0

    def draw(self, want: Want) -> Batch:
        """The next batch.

        Raises:
            NothingToPractise: it took longer than `timeout_s`, or nobody wants it any more.
            ApiError: the sampler refuses (no such run, wrong key, too large a batch).
        """
        items: list[Item] = []
        try:
            return self._draw(want, items)
        except BaseException as error:
            leases = list(Batch(tuple(items), 0).leases)
            if isinstance(error, Exception):
                self.live.release(leases)
            for lease in leases:  # after an interrupt there is no time for calls
                self.live.keeper.drop(lease.id)
            raise

    def _draw(self, want: Want, items: list[Item]) -> Batch:
        begun_s = reminded_s = time.monotonic()
        version = self.policy_version
        asked: Asked | None = None
        while len(items) < want.num_tasks and (want.whole or not items):
            left_s = _left_s(want, begun_s)
            # Asked again as it was, until it is answered: a reply may have been lost.
            asked = asked or self._ask(want.num_tasks - len(items), left_s)
            answer, reason = self._lease(asked, left_s, want.stop)
            if answer is not None:
                asked = None
                items += self._items(answer)
                self.policy_version = version = answer.policy_version
                if answer.items and not want.stop.is_set():
                    continue
            now_s = time.monotonic()
            if want.stop.is_set():
                raise NothingToPractise("the call was cancelled")
            if self._goes_alone(reason, now_s - begun_s):
                items += self._alone(want, items, reason)
                break
            if want.timeout_s is not None and now_s - begun_s >= want.timeout_s:
                raise NothingToPractise(
                    f"{len(items)} of {want.num_tasks} tasks within {want.timeout_s:g} s: "
                    f"{reason}{self._held()}"
                )
            if now_s - reminded_s >= REMIND_S:
                reminded_s = now_s
                waited_s = now_s - begun_s
                logger.warning(
                    "waiting for tasks since %.0f s: %s%s", waited_s, reason, self._held()
                )
        return Batch(tuple(items), version)

    def _ask(self, count: int, left_s: float | None) -> Asked:
        request = PromptBatchRequest(
            num_tasks=min(count, self.run.limits.max_batch_tasks),
            worker=self.live.worker,
            wait_s=POLL_S if left_s is None else min(POLL_S, left_s),
            ttl_s=self.options.ttl_s,
        )
        return Asked(request, uuid.uuid4().hex)

    def _lease(
        self, asked: Asked, left_s: float | None, stop: threading.Event
    ) -> tuple[PromptBatch | None, str]:
        """An answer, or none; and why there are no tasks in it."""
        begun_s = time.monotonic()
        if self._is_alone() and begun_s < self._retry_s:
            return None, "the sampler is away"
        try:
            self._catch_up(left_s)
            within_s = self._within_s(left_s)
            answer = self.live.lease(asked.request, key=asked.key, within_s=within_s)
        except EtudeError as error:
            if not is_away(error):
                raise
            self.live.outage.begin(error, since_s=begun_s)
            if self._is_alone():
                now_s = time.monotonic()
                self._retry_s = now_s + RETRY_SHARE * (now_s - begun_s)
            else:
                stop.wait(RETRY_S if left_s is None else min(RETRY_S, left_s))
            return None, f"the sampler is away ({error})"
        self.live.outage.end()
        if answer.lease is not None:
            if self._num_alone:
                logger.warning("back to the sampler after %d tasks without it", self._num_alone)
                self._num_alone = 0
            self.live.keeper.keep(answer.lease, [item.task.id for item in answer.items])
        return answer, str(answer.degraded_reason or "")

    def _within_s(self, left_s: float | None) -> float | None:
        """How long a call may take beside its long poll: a sampler that hangs is away, too."""
        bounds = [] if left_s is None else [left_s]
        if self.options.on_outage == "uniform":
            bounds.append(self.options.patience_s)
        return max(LEAST_CALL_S, min(bounds)) if bounds else None

    def _catch_up(self, left_s: float | None) -> None:
        """Let what is on its way arrive, if the sampler is there: the draw should know of it."""
        patience_s = self.options.patience_s
        until_s = time.monotonic() + (patience_s if left_s is None else min(patience_s, left_s))
        while not self.live.outbox.flush(LOOK_S):
            if self.live.outage.seconds or time.monotonic() >= until_s:
                return

    def _held(self) -> str:
        """A hint for a loop that forgets its batches."""
        held = [lease.id for lease in self.live.keeper.open()]
        num_tasks = sum(self.live.keeper.num_left(name) for name in held)
        if not num_tasks or self.live.outage.seconds:
            return ""
        return f" ({num_tasks} tasks that this process drew are neither reported nor released)"

    def _items(self, answer: PromptBatch) -> list[Item]:
        index = (lambda name: None) if self.rows is None else self.rows.index
        return [
            Item(item.task, item.num_rollouts, index(item.task.id), answer.lease, item)
            for item in answer.items
        ]

    def _is_alone(self) -> bool:
        away_s = self.live.outage.seconds
        is_away_now = away_s > 0 and away_s >= self.options.patience_s
        return self.options.on_outage == "uniform" and is_away_now

    def _goes_alone(self, reason: str, waited_s: float) -> bool:
        if self.options.on_outage == "wait" or self.rows is None:
            return False
        if reason == DegradedReason.RUN_PAUSED:
            return False
        return self._is_alone() or (
            self.live.outage.seconds == 0 and waited_s >= self.options.patience_s
        )

    def _alone(self, want: Want, items: list[Item], reason: str) -> list[Item]:
        assert self.rows is not None
        missing = want.num_tasks - len(items)
        self._num_alone += missing
        now_s = time.monotonic()
        if self._num_alone == missing or now_s - self._said_s >= REMIND_S:
            self._said_s = now_s
            logger.warning(
                "%d tasks are drawn uniformly, without the sampler: %s", self._num_alone, reason
            )
        return self.rows.uniform(
            missing,
            chance=self.chance,
            num_rollouts=self.run.group_size,
            without=[item.task_id for item in items],
        )


def _left_s(want: Want, begun_s: float) -> float | None:
    if want.timeout_s is None:
        return None
    return max(0.0, want.timeout_s - (time.monotonic() - begun_s))
