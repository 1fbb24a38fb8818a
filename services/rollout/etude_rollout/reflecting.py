"""The reflect turn: a failed rollout says what went wrong and answers again (section 6).

Planners are the last attempts, with their own reward; reflectors are the reflections, with the
reward of the attempt that followed less that of the one before. The two are compared among
themselves only (`Outcome.role`); each is trained under the dialogue that it saw. Attributed to
RetroAct (2503.01490) by others. Used by `climbing.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from etude_proto.v1 import Attempt, Ladder, Message, Outcome, Rung, Task

from .engines.base import Completion
from .outcomes import outcome_of
from .phases import EpisodeFailed
from .prompting import Prompt
from .rolling import Roller, Sample
from .trajectories import Rollout

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retry:
    """One more attempt of a rollout, and the reflection before it."""

    asked: Prompt
    """What the reflection answers."""
    reflection: Completion
    sample: Sample
    before: Sample
    """The attempt that was reflected on."""

    def reflector(self, task: Task) -> Outcome:
        """The reflection's outcome: what the second attempt earned, less the first."""
        second = outcome_of(self.sample, task)
        return second.model_copy(
            update={
                "role": "reflector",
                "shaping": -self.before.scored.total,
                "num_tokens": len(self.reflection.token_ids),
                "min_policy_version": min(self.reflection.versions, default=0),
                "max_policy_version": max(self.reflection.versions, default=0),
            }
        )


@dataclass(frozen=True, slots=True)
class Reflected:
    """What came of a group's reflections."""

    attempts: list[Attempt]
    """The further attempts, level by level."""
    merged: Attempt
    """Planners, then reflectors."""
    trained: list[Rollout]
    """One per outcome of `merged`."""
    made: list[Sample]
    """All further attempts."""


async def reflected(
    roller: Roller, ladder: Ladder, group: Sequence[Sample], *, task: Task
) -> Reflected | None:
    """Let the failed rollouts of a group reflect and try again; None if there is nothing to do.

    Raises:
        EngineUnavailable: the engine is away.
    """
    last = list(group)
    dialogues = [roller.messages for _ in group]
    attempts: list[Attempt] = []
    retries: list[Retry] = []
    for rung in ladder.rungs:
        failed = [i for i, one in enumerate(last) if one.is_valid and not one.scored.success]
        found = await asyncio.gather(
            *(
                _retry(roller, rung, last[i], dialogue=dialogues[i], stream=f"{rung.level}/{i}")
                for i in failed
            )
        )
        again = {i: retry for i, retry in zip(failed, found, strict=True) if retry is not None}
        if not again:
            break
        for i, retry in again.items():
            last[i] = retry.sample
            dialogues[i] = _dialogue(dialogues[i], retry, rung)
        retries += again.values()
        outcomes = [_spent(retry, task) for retry in again.values()]
        attempts.append(
            Attempt(scaffold_kind=ladder.kind, scaffold_level=rung.level, outcomes=outcomes)
        )
    if not retries:
        return None
    planners = [outcome_of(one, task).model_copy(update={"role": "planner"}) for one in last]
    merged = Attempt(
        scaffold_kind=ladder.kind,
        scaffold_level=attempts[-1].scaffold_level,
        number=1,
        outcomes=[*planners, *(retry.reflector(task) for retry in retries)],
        merged=True,
    )
    trained = [Rollout(one.prompt.token_ids, one.completion) for one in last]
    trained += [Rollout(retry.asked.token_ids, retry.reflection) for retry in retries]
    return Reflected(attempts, merged, trained, [retry.sample for retry in retries])


async def _retry(
    roller: Roller, rung: Rung, failed: Sample, *, dialogue: Sequence[Message], stream: str
) -> Retry | None:
    """A reflection on a failed attempt, and another attempt; None if either cannot be made."""
    asking = [
        *dialogue[len(roller.messages) :],
        Message(role="assistant", content=failed.text),
        Message(role="user", content=rung.text),
    ]
    try:
        asked = roller.prompt(turns=asking)
        (reflection,) = await roller.generate(asked, 1, stream=f"reflect/{stream}")
        if not reflection.finish_reason.is_valid:
            return None
        turns = [*asking, *_answer(asked, reflection, rung)]
        prompt = roller.prompt(turns=turns)
        (sample,) = await roller.sample(prompt, 1, stream=f"again/{stream}")
    except EpisodeFailed as failure:
        _log.info("reflection.left_out", extra={"level": rung.level, "detail": failure.detail})
        return None
    return Retry(asked, reflection, sample, failed) if sample.is_valid else None


def _answer(asked: Prompt, reflection: Completion, rung: Rung) -> list[Message]:
    """The reflection, and the turn that asks for another attempt."""
    return [
        Message(role="assistant", content=asked.prefill + reflection.text),
        Message(role="user", content=rung.again),
    ]


def _dialogue(before: Sequence[Message], retry: Retry, rung: Rung) -> list[Message]:
    """The dialogue that the further attempt answered."""
    return [
        *before,
        Message(role="assistant", content=retry.before.text),
        Message(role="user", content=rung.text),
        *_answer(retry.asked, retry.reflection, rung),
    ]


def _spent(retry: Retry, task: Task) -> Outcome:
    """The further attempt's outcome with all the tokens that it cost."""
    outcome = outcome_of(retry.sample, task)
    num_tokens = outcome.num_tokens + len(retry.reflection.token_ids)
    return outcome.model_copy(update={"num_tokens": num_tokens})
