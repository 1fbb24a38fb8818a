"""A group's rollouts as packed tensors (`etude_proto.tensors`), ready to travel.

Prompt tokens, the prefill included, are never in the loss; nor are tools' answers and the user's
later turns. Used by `episode.py`, `climbing.py` and, for episodes of several turns, `tabling.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from etude_proto.tensors import GroupTrajectories

from .engines.base import Completion

PROMPT_VERSION = -1
"""Version of tokens that no policy produced."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One trajectory: the prompt that the policy saw, and what it said."""

    prompt_ids: Sequence[int]
    completion: Completion | None
    """Where infrastructure failed, by itself or in the end, or this is None: the trajectory is its
    prompt alone, and nothing of it is trained."""


def pack(prompt_ids: Sequence[int], completions: Sequence[Completion | None]) -> GroupTrajectories:
    """Rollouts of one prompt, one after another."""
    return pack_rollouts([Rollout(prompt_ids, completion) for completion in completions])


def pack_rollouts(rollouts: Sequence[Rollout]) -> GroupTrajectories:
    """Prompt and completion of every rollout, one after another: each under its own prompt."""
    tokens: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    versions: list[int] = []
    cu_seqlens = [0]
    for rollout in rollouts:
        num_prompt, completion = len(rollout.prompt_ids), rollout.completion
        tokens += rollout.prompt_ids
        mask += [0] * num_prompt
        logprobs += [0.0] * num_prompt
        versions += [PROMPT_VERSION] * num_prompt
        if completion is not None and completion.finish_reason.is_valid:
            tokens += completion.token_ids
            mask += [1] * len(completion.token_ids)
            logprobs += completion.logprobs
            versions += completion.versions
        cu_seqlens.append(len(tokens))
    return GroupTrajectories(
        tokens_T=np.array(tokens, dtype=np.int32),
        loss_mask_T=np.array(mask, dtype=np.uint8),
        # Rounding can lift the log-probability of a certain token a hair above zero.
        logprobs_T=np.minimum(np.array(logprobs, dtype=np.float32), 0.0),
        versions_T=np.array(versions, dtype=np.int32),
        cu_seqlens=np.array(cu_seqlens, dtype=np.int32),
    )


class Tracked(Protocol):
    """An episode's tokens; see `turns/chains.py`."""

    token_ids: list[int]
    is_sampled: list[bool]
    logprobs: list[float]
    versions: list[int]


def pack_tracks(
    prompt_ids: Sequence[int], tracks: Sequence[Tracked | None], parents: Sequence[int]
) -> GroupTrajectories:
    """Episodes of one prompt, one after another; branches hold what they share with their parents.

    Args:
        tracks: None where infrastructure failed: the trajectory is the prompt alone.
        parents: the rollout that each was cloned from; -1 for roots.
    """
    nothing = len(prompt_ids)
    tokens = [list(prompt_ids) if one is None else one.token_ids for one in tracks]
    sampled = [[False] * nothing if one is None else one.is_sampled for one in tracks]
    logprobs = [[0.0] * nothing if one is None else one.logprobs for one in tracks]
    versions = [[PROMPT_VERSION] * nothing if one is None else one.versions for one in tracks]
    return GroupTrajectories(
        tokens_T=np.concatenate([np.array(one, dtype=np.int32) for one in tokens]),
        loss_mask_T=np.concatenate([np.array(one, dtype=np.uint8) for one in sampled]),
        logprobs_T=np.minimum(
            np.concatenate([np.array(one, dtype=np.float32) for one in logprobs]), 0.0
        ),
        versions_T=np.concatenate([np.array(one, dtype=np.int32) for one in versions]),
        cu_seqlens=np.cumsum([0, *map(len, tokens)]).astype(np.int32),
        parent_G=np.array(parents, dtype=np.int32) if max(parents) >= 0 else None,
    )
