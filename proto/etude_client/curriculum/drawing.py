"""One batch: leases until enough tasks are held, or rows of the trainer's own while there is no
sampler.

`facade.py` calls `draw` on rank 0. Waiting is bounded by the caller's patience only: a paused run
or a full queue is nothing wrong.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from dataclasses import dataclass

from etude_proto.v1 import DegradedReason, PromptBatch, PromptBatchRequest

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


@dataclass(slots=True)
class Drawer:
    """Draws batches for one run."""

    live: Live
    rows: Rows | None
    group_size: int
    chance: random.Random
    options: Chosen
    policy_version: int = 0

    def draw(self, want: Want) -> Batch:
        """The next batch.

        Raises:
            NothingToPractise: it took longer than `timeout_s`.
            ApiError: the sampler refuses (no such run, wrong key, too large a batch).
        """
        begun_s = time.monotonic()
        reminded_s = begun_s
        items: list[Item] = []
        key = uuid.uuid4().hex
        while len(items) < want.num_tasks and (want.whole or not items):
            answer, reason = self._lease(want.num_tasks - len(items), key)
            if answer is not None:
                key = uuid.uuid4().hex
                items += self._items(answer)
                self.policy_version = answer.policy_version
                if answer.items:
                    continue
            now_s = time.monotonic()
            if self._goes_alone(reason, now_s - begun_s):
                items += self._alone(want, items, reason)
                break
            if want.timeout_s is not None and now_s - begun_s >= want.timeout_s:
                self.live.release(list(Batch(tuple(items), 0).leases))
                raise NothingToPractise(
                    f"{len(items)} of {want.num_tasks} tasks within {want.timeout_s:g} s: {reason}"
                )
            if now_s - reminded_s >= REMIND_S:
                reminded_s = now_s
                logger.warning("waiting for tasks since %.0f s: %s", now_s - begun_s, reason)
        return Batch(tuple(items), self.policy_version)

    def _lease(self, count: int, key: str) -> tuple[PromptBatch | None, str]:
        """An answer, or none; and why there are no tasks in it."""
        request = PromptBatchRequest(
            num_tasks=count, worker=self.live.worker, wait_s=POLL_S, ttl_s=self.options.ttl_s
        )
        try:
            self._catch_up()
            answer = self.live.client.lease_prompt_batch(
                self.live.run_id, request, idempotency_key=key
            )
        except EtudeError as error:
            if not is_away(error):
                raise
            self.live.outage.begin(error)
            if not self._is_alone():
                time.sleep(RETRY_S)
            return None, f"the sampler is away ({error})"
        self.live.outage.end()
        if answer.lease is not None:
            self.live.keeper.keep(answer.lease)
        return answer, str(answer.degraded_reason or "")

    def _catch_up(self) -> None:
        """Let what is on its way arrive, if the sampler is there: the draw should know of it."""
        until_s = time.monotonic() + self.options.patience_s
        while not self.live.outbox.flush(LOOK_S):
            if self.live.outage.seconds or time.monotonic() >= until_s:
                return

    def _items(self, answer: PromptBatch) -> list[Item]:
        index = (lambda name: None) if self.rows is None else self.rows.index
        return [
            Item(item.task, item.num_rollouts, index(item.task.id), answer.lease, item)
            for item in answer.items
        ]

    def _is_alone(self) -> bool:
        away_s = self.live.outage.seconds
        return self.options.on_outage == "uniform" and away_s >= self.options.patience_s

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
        logger.warning("%d tasks are drawn uniformly, without the sampler: %s", missing, reason)
        return self.rows.uniform(
            missing,
            chance=self.chance,
            num_rollouts=self.group_size,
            without=[item.task_id for item in items],
        )
