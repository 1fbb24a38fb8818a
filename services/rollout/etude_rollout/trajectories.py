"""A group's rollouts as packed tensors (`etude_proto.tensors`), ready to travel.

Prompt tokens, the prefill included, are never in the loss. Used by `episode.py`, `climbing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
