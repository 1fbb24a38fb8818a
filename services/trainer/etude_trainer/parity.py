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
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from transformers.utils import ModelOutput

from .batch import Group
from .lora import LoraPolicy
from .model import Policy
from .parallel.sharding import ShardedPolicy, rounded

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


class _Published(nn.Module):
    """The whole model, called as its author wrote it, with weights as they will be on disk."""

    def __init__(self, policy: Policy, dtype: torch.dtype) -> None:
        super().__init__()
        self._module = policy.module
        self._weights = {
            name: value.to(dtype).to(value.dtype)
            for name, value in policy.module.named_parameters()
            if dtype != torch.float32
        }
        if isinstance(policy, LoraPolicy):
            self._weights = policy.published(dtype)

    def forward(self, **arguments: object) -> ModelOutput:
        answer: ModelOutput = functional_call(
            self._module, self._weights, kwargs=arguments, args=()
        )
        return answer


def measure(
    policy: Policy, token_ids: list[list[int]], *, policy_version: int, dtype: torch.dtype
) -> Parity:
    """Run the probe through the policy with its weights rounded to `dtype`, computed in float32.

    A collective call for a sharded policy; its layers compute in the type that they travel in.
    """
    if isinstance(policy, ShardedPolicy):
        with rounded(policy, dtype):
            return _run(policy, policy.module, token_ids, policy_version)
    return _run(policy, _Published(policy, dtype), token_ids, policy_version)


def _run(
    policy: Policy, published: nn.Module, token_ids: list[list[int]], policy_version: int
) -> Parity:
    logprobs: list[list[float]] = []
    with torch.no_grad():
        for ids in token_ids:
            ids_BL = torch.tensor([ids], device=policy.device)
            answer = published(input_ids=ids_BL, use_cache=False)
            logits = answer.logits[0, :-1].float()
            lp_T = -functional.cross_entropy(logits, ids_BL[0, 1:], reduction="none")
            logprobs.append([float(value) for value in lp_T])
    return Parity(policy_version, token_ids, logprobs)
