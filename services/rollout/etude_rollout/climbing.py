"""Ladders: what is done for a task of one turn whose rollouts failed (algorithms.md, section 6).

Hints and prefixes are tried by `replacing.py`; `reflect` lets every failed rollout try again
(`reflecting.py`). Every rung is an attempt of its own in the report, so that the sampler keeps
un-scaffolded statistics pure. Called by `episode.py`, inside the lease; episodes of several turns
climb in `turns/trying.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from etude_proto.v1 import Attempt, Merge, PromptItem

from .outcomes import outcomes_of
from .reflecting import reflected
from .replacing import replaced
from .rolling import Roller, Sample
from .trajectories import Rollout


@dataclass(frozen=True, slots=True)
class Climbed:
    """A task's attempts, the last of them the one to train on, and its rollouts."""

    attempts: list[Attempt]
    trained: list[Rollout]
    """One per outcome of the last attempt."""
    scored: list[Sample] = field(default_factory=list)
    """Every further rollout that was made."""


async def climb(roller: Roller, item: PromptItem, group: Sequence[Sample]) -> Climbed | None:
    """Climb the item's ladder; None where there is nothing to climb for.

    Infrastructure that fails ends the climb; what was made before is reported.

    Raises:
        EngineUnavailable: the engine is away.
    """
    ladder = item.ladder
    if ladder is None or not ladder.rungs:
        return None
    bare = Attempt(
        scaffold_kind=item.scaffold.kind,
        scaffold_level=item.scaffold.level,
        outcomes=outcomes_of(group, item.task),
    )
    if ladder.merge is Merge.APPEND_TURN:
        turns = await reflected(roller, ladder, group, task=item.task)
        if turns is None:
            return None
        return Climbed([bare, *turns.attempts, turns.merged], turns.trained, turns.made)
    found = await replaced(
        roller, ladder, group, bare=bare, outcomes=lambda samples: outcomes_of(samples, item.task)
    )
    if found is None:
        return None
    return Climbed(found.attempts, _rollouts(found.trained), found.made)


def _rollouts(samples: Sequence[Sample]) -> list[Rollout]:
    return [Rollout(sample.prompt.token_ids, sample.completion) for sample in samples]
