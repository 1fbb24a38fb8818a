"""Groups of rollouts for trainer tests, sampled from a real (tiny) model and packed as cargo."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import nn

from etude_client.call import TrainingFrame
from etude_proto.tensors import GroupTrajectories, encode_group
from etude_proto.v1 import (
    Attempt,
    CargoRef,
    FinishReason,
    GroupReport,
    Lease,
    Outcome,
    Report,
    TrainingBatch,
)

Reward = Callable[[list[int]], float]
"""A completion's tokens to a reward in [0, 1]."""

FENCE = (1 << 36) + 1


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled sequence."""

    prompt: list[int]
    completion: list[int]
    logprobs: list[float]


def sample(
    model: nn.Module, prompt: Sequence[int], *, lengths: Sequence[int], seed: int
) -> list[Rollout]:
    """Completions of the given lengths at temperature 1, one a length, with log-probabilities."""
    generator = torch.Generator().manual_seed(seed)
    ids_GT = torch.tensor([list(prompt)] * len(lengths))
    chosen: list[torch.Tensor] = []
    with torch.no_grad():
        for _ in range(max(lengths)):
            lp_GV = model(input_ids=ids_GT, use_cache=False).logits[:, -1].log_softmax(-1)
            next_G = torch.multinomial(lp_GV.exp(), 1, generator=generator)
            chosen.append(lp_GV.gather(1, next_G)[:, 0])
            ids_GT = torch.cat([ids_GT, next_G], dim=1)
    lp_GC = torch.stack(chosen, dim=1)
    return [
        Rollout(
            prompt=list(prompt),
            completion=ids_GT[j, len(prompt) : len(prompt) + length].tolist(),
            logprobs=lp_GC[j, :length].tolist(),
        )
        for j, length in enumerate(lengths)
    ]


def pack(
    rollouts: Sequence[Rollout],
    *,
    task_id: str,
    reward: Reward,
    version: int = 0,
    failures: Sequence[int] = (),
    fence: int = FENCE,
) -> bytes:
    """A group's safetensors body; `failures` are rollouts that ended in an error."""
    tokens = [rollout.prompt + rollout.completion for rollout in rollouts]
    masks = [[0] * len(r.prompt) + [1] * len(r.completion) for r in rollouts]
    logprobs = [[0.0] * len(r.prompt) + r.logprobs for r in rollouts]
    flat_mask = np.array(list(chain(*masks)), dtype=np.uint8)
    group = GroupTrajectories(
        tokens_T=np.array(list(chain(*tokens)), dtype=np.int32),
        loss_mask_T=flat_mask,
        logprobs_T=np.minimum(np.array(list(chain(*logprobs)), dtype=np.float32), 0.0),
        versions_T=np.where(flat_mask == 1, version, -1).astype(np.int32),
        cu_seqlens=np.cumsum([0, *map(len, tokens)]).astype(np.int32),
    )
    outcomes = []
    for j, rollout in enumerate(rollouts):
        value = reward(rollout.completion)
        outcomes.append(
            Outcome(
                components={"format": value},
                reward=value,
                success=value == 1.0,
                finish_reason=FinishReason.ERROR if j in failures else FinishReason.STOP,
                num_tokens=len(rollout.completion),
                min_policy_version=version,
                max_policy_version=version,
            )
        )
    attempt = Attempt(outcomes=outcomes)
    report = Report(fence=fence, groups=[GroupReport(task_id=task_id, attempts=[attempt])])
    return encode_group(group, report)


def frame_of(bodies: Sequence[bytes], *, version: int = 0, name: str = "a") -> TrainingFrame:
    """A training batch of these groups, as the client would give it."""
    refs = [
        CargoRef(
            task_id=f"task_{number}",
            ordinal=number,
            lease_id=f"lease_{number}",
            apply_seq=number,
            min_policy_version=version,
            lane="uniform",
            offset=0,
            num_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
        for number, body in enumerate(bodies)
    ]
    lease = Lease(id=f"tlease_{name}", run_id="run_test", fence=FENCE, deadline_ms=0, ttl_s=60.0)
    manifest = TrainingBatch(
        lease=lease,
        groups=refs,
        degraded=False,
        degraded_reason=None,
        policy_version=version,
        num_groups_drawn=len(refs),
    )
    return TrainingFrame(manifest, list(bodies))


def share_below(limit: int) -> Reward:
    """Rewards tokens with small numbers: the share of a completion's tokens below `limit`."""
    return lambda completion: sum(token < limit for token in completion) / len(completion)


def sample_batch(
    model: nn.Module, *, version: int = 0, num_groups: int = 4, group_size: int = 4, seed: int = 0
) -> TrainingFrame:
    """Groups with prompts and completions of various lengths, rewarded by `share_below(128)`."""
    rng = np.random.default_rng(seed)
    bodies = []
    for number in range(num_groups):
        prompt = rng.integers(2, 512, size=int(rng.integers(5, 20))).tolist()
        lengths = rng.integers(1, 12, size=group_size).tolist()
        rollouts = sample(model, prompt, lengths=lengths, seed=seed * 1000 + number)
        task_id = f"task_{number}"
        bodies.append(pack(rollouts, task_id=task_id, reward=share_below(128), version=version))
    return frame_of(bodies, version=version, name=f"s{seed}v{version}")
