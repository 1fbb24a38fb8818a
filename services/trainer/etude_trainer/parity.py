"""The parity probe: log-probabilities that an engine must reproduce after loading a version.

`parity.json` lies beside the published weights: `{"policy_version": v, "token_ids": [[...]],
"logprobs": [[...]]}` with `logprobs[i][t] = log p(token_ids[i][t + 1] | token_ids[i][: t + 1])`,
float32, temperature 1. Made by `checkpoint.py`'s caller, read by the rollout service.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch.nn import functional

from .batch import Group
from .model import Policy

FALLBACK: Final = tuple(range(2, 10))
"""Tokens that every vocabulary has."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Probe sequences and what this policy says of them."""

    policy_version: int
    token_ids: list[list[int]]
    logprobs: list[list[float]]

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(
            {
                "policy_version": self.policy_version,
                "token_ids": self.token_ids,
                "logprobs": self.logprobs,
            }
        )


def probe_tokens(
    groups: Sequence[Group], *, num_sequences: int, num_tokens: int
) -> list[list[int]]:
    """The first sequence of each of the first groups, cut to `num_tokens`: real tokens.

    A batch without a sequence gets `FALLBACK`: a version is never published without a probe.
    """
    found: list[list[int]] = []
    for group in groups:
        for sequence in group.sequences:
            if sequence is not None:
                found.append([int(token) for token in sequence.tokens_T[:num_tokens]])
                break
        if len(found) == num_sequences:
            break
    return found or [list(FALLBACK)]


def measure(
    policy: Policy, token_ids: list[list[int]], *, policy_version: int, dtype: torch.dtype
) -> Parity:
    """Run the probe through the policy with its weights rounded to `dtype`, computed in float32.

    A collective call for a sharded policy; its layers compute in the type that they travel in.
    """
    with torch.no_grad(), policy.as_published(dtype):
        logprobs = [_scored(policy, ids) for ids in token_ids]
    return Parity(policy_version, token_ids, logprobs)


def _scored(policy: Policy, ids: list[int]) -> list[float]:
    """The whole model, called as its author wrote it."""
    ids_BL = torch.tensor([ids], device=policy.device)
    shards = policy.shards
    in_bfloat16 = shards is not None and shards.in_bfloat16
    with torch.autocast(policy.device.type, dtype=torch.bfloat16, enabled=in_bfloat16):
        logits = policy.module(input_ids=ids_BL, use_cache=False).logits[0, :-1].float()
    if shards is not None:
        shards.let_go()
    return (-functional.cross_entropy(logits, ids_BL[0, 1:], reduction="none")).tolist()
