"""Room: a step whose passes do not fit the memory goes on with smaller ones.

The gradient of an update does not depend on how its sequences are packed, and no weight moves
before the update's last pass: work that runs out of memory is planned again with half the tokens
a pass, and done again from the update's beginning. Among several ranks one that fails makes up for
the calls that the others wait for (`parallel/wire.py`); after each pass all hear of it, and all
plan again.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Final, TypeVar

import torch

from ..errors import OutOfMemory
from ..learner import Learner
from ..model import Policy
from ..parallel.crew import Crew, StepAbandoned
from ..parallel.sharding import idle_pass
from .plan import StepPlan

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SIGNS: Final = ("DefaultCPUAllocator", "out of memory", "can't allocate memory")
"""What torch's allocators say, on CPUs and accelerators."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


class PassTooLarge(Exception):
    """A pass did not fit the memory of a rank; raised on all ranks alike."""


def make_pass(policy: Policy, work: Callable[[], None], *, crew: Crew) -> None:
    """One pass on every rank.

    Args:
        policy: of which `work` is a pass.
        work: this rank's.
        crew: the ranks.

    Raises:
        PassTooLarge: it did not fit the memory, here or on another rank.
        OutOfMemory: it did not, and this rank cannot make up for it.
    """
    if policy.shards is not None:
        policy.shards.begin_pass()
    reason = _attempt(work)
    # Not inside a handler: there the failed pass's tensors are still alive.
    if reason and not crew.is_alone:
        _make_up(policy, crew, reason)
    if not crew.is_alone and crew.most(bool(reason)):
        told = zip(range(crew.size), crew.gather(reason), strict=True)
        reason = "; ".join(f"rank {rank}: {text}" for rank, text in told if text)
    if reason:
        raise PassTooLarge(reason)


def _attempt(work: Callable[[], None]) -> str:
    """Why it did not fit the memory; empty if it did."""
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        lines = str(error).strip().splitlines()
        return lines[0][:200] if lines else "out of memory"
    return ""


def _make_up(policy: Policy, crew: Crew, reason: str) -> None:
    shards = policy.shards
    assert shards is not None
    _free()
    if not shards.can_make_up:
        again: str | None = "parallel.replicas is not 1"
    else:
        again = _attempt(lambda: shards.make_up(lambda: idle_pass(policy)))
    if again:
        raise OutOfMemory(
            f"a pass does not fit the memory of rank {crew.rank}, which cannot go on without it "
            f"({again}): lower batch.micro_batch_tokens ({reason})"
        )


def within_memory(
    learner: Learner,
    plan: StepPlan,
    work: Callable[[StepPlan], T],
    *,
    again: Callable[[], StepPlan],
) -> tuple[StepPlan, T]:
    """Do a part of a step; where memory runs out, with ever smaller passes.

    Args:
        learner: its room shrinks, for this and later steps; alike on all ranks.
        plan: the plan to begin with.
        work: makes passes (`make_pass`); may be begun again from the start: changes neither
            weights nor sums of the step.
        again: the plan anew, for the room that there is now.

    Returns:
        The plan that fitted, and what `work` gave.

    Raises:
        OutOfMemory: the largest pass is a single sequence already; on a rank that follows it is
            `StepAbandoned`.
    """
    while True:
        try:
            return plan, work(plan)
        except PassTooLarge as error:
            reason = str(error)
        plan = _smaller(learner, plan, again, reason=reason)


def _smaller(
    learner: Learner, plan: StepPlan, again: Callable[[], StepPlan], *, reason: str
) -> StepPlan:
    learner.optimizer.zero_grad(set_to_none=True)
    _free()
    crew = learner.crew
    before = crew.most(plan.largest_pass)
    learner.room.max_tokens = max(1, before // 2)
    learner.room.num_halved += 1
    plan = again()
    now = crew.most(plan.largest_pass)
    if now >= before and not crew.leads:
        raise StepAbandoned(reason)
    if now >= before:
        raise OutOfMemory(
            f"a single sequence of {before} tokens does not fit the memory: set "
            f"model.gradient_checkpointing, or shorten completions in the run's workers ({reason})"
        )
    if crew.leads:
        fields = {"tokens_per_pass": before, "now": now, "reason": reason}
        logger.warning("memory.exhausted", extra=fields)
    return plan


def _free() -> None:
    """Let go of what a failed pass left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
