"""Room: a step whose passes do not fit the memory goes on with smaller ones.

The gradient of an update does not depend on how its sequences are packed, and no weight moves
before the update's last pass: work that runs out of memory is planned again with half the tokens
a pass, and done again from the update's beginning.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Final, TypeVar

import torch

from ..errors import OutOfMemory
from ..learner import Learner
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


def within_memory(
    learner: Learner,
    plan: StepPlan,
    work: Callable[[StepPlan], T],
    *,
    again: Callable[[], StepPlan],
) -> tuple[StepPlan, T]:
    """Do a part of a step; where memory runs out, with ever smaller passes.

    Args:
        learner: its room shrinks, for this and later steps.
        plan: the plan to begin with.
        work: may be begun again from the start: changes neither weights nor sums of the step.
        again: the plan anew, for the room that there is now.

    Returns:
        The plan that fitted, and what `work` gave.

    Raises:
        OutOfMemory: the largest pass is a single sequence already, or ranks work together: the
            others cannot know of it.
    """
    while True:
        try:
            return plan, work(plan)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "out of memory"
        # Not inside the handler: there the failed pass's tensors are still alive.
        plan = _smaller(learner, plan, again, reason=reason)


def _smaller(
    learner: Learner, plan: StepPlan, again: Callable[[], StepPlan], *, reason: str
) -> StepPlan:
    learner.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    before = plan.largest_pass
    if not learner.crew.is_alone:
        raise OutOfMemory(
            f"a pass of {before} tokens does not fit the memory of rank {learner.crew.rank}: "
            f"lower batch.micro_batch_tokens ({reason[:200]})"
        )
    learner.room.max_tokens = max(1, before // 2)
    learner.room.num_halved += 1
    plan = again()
    if plan.largest_pass >= before:
        raise OutOfMemory(
            f"a single sequence of {before} tokens does not fit the memory: set "
            "model.gradient_checkpointing, or shorten completions in the run's workers "
            f"({reason[:200]})"
        )
    fields = {"tokens_per_pass": before, "now": plan.largest_pass, "reason": reason[:200]}
    logger.warning("memory.exhausted", extra=fields)
    return plan
