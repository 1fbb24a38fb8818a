"""The metrics of a step: what the sampler keeps in its history and the API shows.

Sums over tokens, so that micro-batches of any size give the same numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ..algorithms.objective import TokenInputs, TokenLosses
from ..batch import Group, TokenSequence
from ..parallel.crew import Crew
from .credit import Credit, component_shares

MAX_METRICS = 64
"""Most scalars that an ack carries."""

_COMPONENT: Final = "component_"
_ADVANTAGE_SHARE: Final = "advantage_share_"


@dataclass(slots=True)
class Tally:
    """Sums over the passes of a step."""

    num_tokens: int = 0
    loss: float = 0.0
    loss_by_token: float = 0.0
    loss_by_group: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    importance_max: float = 0.0
    norms: list[float] = field(default_factory=list)
    gap_fresh: tuple[float, int] = (0.0, 0)
    """Sum of the absolute gaps to the engine over tokens of the batch's own version; how many."""

    def add(
        self, tokens: TokenInputs, losses: TokenLosses, *, loss: float, fresh_N: Tensor
    ) -> None:
        """Count the tokens of one pass; `fresh_N` are those of the batch's own version."""
        gap_N = tokens.lp_rollout_N - tokens.lp_old_N
        total, number = self.gap_fresh
        fresh_gap = float(gap_N.abs()[fresh_N].double().sum())
        self.gap_fresh = (total + fresh_gap, number + int(fresh_N.sum()))
        parts = {
            "clip_low_share": losses.clipped_low_N.float(),
            "clip_high_share": losses.clipped_high_N.float(),
            "dual_clip_share": losses.dual_clipped_N.float(),
            "ratio_mean": losses.ratio_N,
            "importance_mean": losses.importance_N,
            "importance_capped_share": losses.capped_N.float(),
            "kl_rollout": torch.expm1(-gap_N) + gap_N,
            "logprob_gap_mean": gap_N.abs(),
            "kl_reference": losses.kl_ref_N,
            "entropy": None if tokens.entropy_N is None else tokens.entropy_N.detach(),
            "nll_mean": -tokens.lp_new_N.detach(),
        }
        for name, values_N in parts.items():
            if values_N is not None:
                self.sums[name] = self.sums.get(name, 0.0) + float(values_N.double().sum())
        self.num_tokens += len(tokens.lp_new_N)
        self.loss += loss
        self.importance_max = max(self.importance_max, float(losses.importance_N.max()))

    def add_both(self, *, by_token: float, by_group: float) -> None:
        """Add the loss of one pass under either normalisation (C7), whichever is trained on."""
        self.loss_by_token += by_token
        self.loss_by_group += by_group

    def add_update(self, norm: float) -> None:
        """Note the gradient's norm, before clipping, of one update."""
        self.norms.append(norm)

    def join(self, crew: Crew) -> None:
        """Add what the other ranks counted; afterwards every rank has the whole step's sums.

        The updates' norms are of the whole gradient already.
        """
        own = [self.num_tokens, self.loss, self.loss_by_token, self.loss_by_group]
        parts = [
            json.loads(text)
            for text in crew.gather(json.dumps([own, self.sums, self.importance_max]))
        ]
        totals = [sum(column) for column in zip(*(part[0] for part in parts), strict=True)]
        self.num_tokens = int(totals[0])
        self.loss, self.loss_by_token, self.loss_by_group = totals[1:]
        self.sums = {
            name: sum(part[1].get(name, 0.0) for part in parts)
            for name in dict.fromkeys(name for part in parts for name in part[1])
        }
        self.importance_max = max(part[2] for part in parts)

    def metrics(self) -> dict[str, float]:
        """Means over all tokens of all updates; nothing where nothing was trained."""
        if not self.norms:
            return {"num_updates": 0.0}
        finite = [norm for norm in self.norms if math.isfinite(norm)]
        means = {name: total / self.num_tokens for name, total in self.sums.items()}
        return {
            **means,
            "clip_share": means["clip_low_share"] + means["clip_high_share"],
            "loss": self.loss / len(self.norms),
            "loss_token_mean": self.loss_by_token / len(self.norms),
            "loss_group_mean": self.loss_by_group / len(self.norms),
            "importance_max": self.importance_max,
            "grad_norm": sum(finite) / len(finite) if finite else 0.0,
            "num_updates": float(len(finite)),
            "num_updates_skipped": float(len(self.norms) - len(finite)),
        }


def batch_metrics(groups: Sequence[Group], credit: Credit) -> dict[str, float]:
    """Rewards, sizes, staleness and components of a batch."""
    metrics = {"num_groups": float(len(groups))}
    advantages_S = credit.advantages_S
    if not groups:
        return metrics
    rewards = torch.tensor([r for group in groups for r in group.rule_rewards_G]).double()
    successes = [float(s) for group in groups for s in group.successes_G]
    sequences = [s for group in groups for s in group.sequences if s is not None]
    staleness = [float(group.staleness) for group in groups]
    sizes = [float(len(group.rewards_G)) for group in groups]
    metrics |= {
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std(correction=0)),
        "success_share": sum(successes) / len(successes),
        "advantage_abs_mean": float(advantages_S.abs().mean()) if len(advantages_S) else 0.0,
        "num_sequences": float(len(sequences)),
        "group_size_min": min(sizes),
        "group_size_max": max(sizes),
        "num_tokens": float(sum(len(s.tokens_T) for s in sequences)),
        "num_tokens_trained": float(sum(s.num_trained for s in sequences)),
        "staleness_mean": sum(staleness) / len(staleness),
        "staleness_max": max(staleness),
        "truncated_share": sum(sum(group.truncated_G) for group in groups) / sum(sizes),
        "masked_share": 1.0 - len(sequences) / sum(sizes),
        **_token_lags(sequences),
    }
    if credit.advantage_N is not None and sequences:
        metrics["spans_missing_share"] = credit.num_without_spans / len(sequences)
    by_component: dict[str, list[float]] = {}
    for group in groups:
        for name, value in group.components.items():
            by_component.setdefault(name, []).append(value)
    for name, values in sorted(by_component.items()):
        metrics[f"{_COMPONENT}{name}"] = sum(values) / len(values)
    for name, share in component_shares(groups).items():
        metrics[f"{_ADVANTAGE_SHARE}{name}"] = share
    return metrics


def _token_lags(sequences: Sequence[TokenSequence]) -> dict[str, float]:
    """How many versions old the trained tokens are, on average and at most."""
    lags = [s.lag_T[s.trained_T] for s in sequences if s.lag_T is not None]
    if not lags:
        return {}
    lag_N = np.concatenate(lags)
    return {"token_lag_mean": float(lag_N.mean()), "token_lag_max": float(lag_N.max())}


def reportable(metrics: dict[str, float]) -> dict[str, float]:
    """What fits an ack: finite numbers, at most `MAX_METRICS`.

    If there are more, those of single components go first: a run may have 32 of them.
    """
    finite = [(name, value) for name, value in metrics.items() if math.isfinite(value)]
    finite.sort(key=lambda item: item[0].startswith((_COMPONENT, _ADVANTAGE_SHARE)))
    return dict(finite[:MAX_METRICS])
