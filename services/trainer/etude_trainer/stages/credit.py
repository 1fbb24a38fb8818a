"""Credit: the advantage of every sequence of a batch and, if asked for, of every token.

Rewards are shaped, compared inside their group, scaled and whitened; with decoupled advantages
each reward component is compared by itself, and may be given to its own tokens. The formulas are
`algorithms/`; `stages/learn.py` calls this once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from etude_proto.tensors import SPAN_COMPONENTS

from ..algorithms.advantages import EPSILON, group_advantages, whiten
from ..algorithms.branches import hard_advantages, shared_lengths
from ..algorithms.components import component_advantages, token_credit
from ..algorithms.shaping import difficulty_factor, kimi_length, overlong, shortest_right
from ..batch import Group, TokenSequence
from ..config import AdvantageConfig, ShapingConfig


@dataclass(frozen=True, slots=True)
class Credit:
    """What a batch's sequences are worth."""

    advantages_S: Tensor
    """Of every trainable sequence, float64, group by group."""
    advantage_N: Tensor | None
    """Of every trained token; None: that of its sequence."""
    num_without_spans: int = 0
    """Sequences that should have had spans and had none."""


@dataclass(frozen=True, slots=True)
class _GroupCredit:
    """Of all valid rollouts of a group, G of them."""

    total_G: Tensor
    by_span_GP: Tensor
    """Of each span's component; nothing to learn there where the group has no such component."""


def batch_credit(
    groups: Sequence[Group],
    config: AdvantageConfig,
    shaping: ShapingConfig,
    penalty_S: Tensor | None = None,
) -> Credit:
    """Advantages of a batch as the configuration wants them.

    Args:
        groups: the batch.
        config: how rewards become advantages.
        shaping: what lengths and difficulty add.
        penalty_S: taken from the reward of every trainable sequence (`shaping.reference_kl`).
    """
    members: list[TokenSequence] = []
    totals: list[Tensor] = []
    spans: list[Tensor] = []
    for group in groups:
        penalty_G = None if penalty_S is None else _penalties(group, penalty_S[len(members) :])
        credit = _group_credit(group, config, shaping, penalty_G)
        for j, sequence in enumerate(group.sequences):
            if sequence is not None:
                members.append(sequence)
                totals.append(credit.total_G[j])
                spans.append(credit.by_span_GP[j])
    if not members:
        return Credit(torch.zeros(0, dtype=torch.float64), None)
    raw_S = torch.stack(totals)
    advantages_S = whiten(raw_S) if config.whitens else raw_S
    if config.credit == "sequence":
        has_branches = config.shared_prefix == "hard" and any(group.roots_G for group in groups)
        return Credit(advantages_S, _hard(groups, advantages_S) if has_branches else None)
    # The whole is shifted and scaled; a part has mean 0 in its group and is only scaled.
    scale = 1.0 / (raw_S.std(correction=1) + EPSILON) if len(raw_S) > 1 else raw_S.new_zeros(())
    tokens = [
        _token_credit(sequence, total, scale * by_span_P)
        for sequence, total, by_span_P in zip(members, advantages_S, spans, strict=True)
    ]
    missing = sum(sequence.spans_T is None for sequence in members)
    return Credit(advantages_S, torch.cat(tokens), missing)


def _hard(groups: Sequence[Group], advantages_S: Tensor) -> Tensor:
    """Advantages of all trained tokens, shared ones with the mean of those that go through."""
    tokens: list[Tensor] = []
    first = 0
    for group in groups:
        there = [(j, one) for j, one in enumerate(group.sequences) if one is not None]
        roots = [group.roots_G[j] if group.roots_G else -1 - j for j, _ in there]
        shared_GG = shared_lengths([one.tokens_T for _, one in there], roots)
        positions = [np.flatnonzero(one.trained_T) for _, one in there]
        own_G = advantages_S[first : first + len(there)]
        tokens += hard_advantages(own_G, shared_GG, positions)
        first += len(there)
    return torch.cat(tokens)


def shaping_share(
    groups: Sequence[Group], config: AdvantageConfig, shaping: ShapingConfig
) -> float:
    """How much of all advantages comes from what workers added to the rule reward.

    `sum abs(A - A of the rule rewards) / sum abs(A)`: a bonus of .01 for own examples is small in
    the reward, and must be small here too (algorithms.md 4.4). 0 where nothing was added.
    """
    moved, total = 0.0, 0.0
    for group in groups:
        with_G = _group_credit(group, config, shaping).total_G
        total += float(with_G.abs().sum())
        if group.rewards_G != group.rule_rewards_G:
            plain = replace(group, rewards_G=group.rule_rewards_G)
            moved += float((with_G - _group_credit(plain, config, shaping).total_G).abs().sum())
    return moved / total if total > 0.0 else 0.0


def component_shares(groups: Sequence[Group]) -> dict[str, float]:
    """Which components the batch's advantages speak of: their shares of `sum abs(w_k A_jk)`.

    Exact for decoupled advantages. For one reward it is the same sum, of what each component would
    give if it were compared by itself under the lease's weights (our choice): a reward's own
    weights are the run's, and are not known here. Empty where no component varies.
    """
    total: dict[str, float] = {}
    for group in groups:
        names = _component_names(group)
        by_component_GK = _by_component(group, names)
        for name, part in zip(names, by_component_GK.abs().sum(dim=0).tolist(), strict=True):
            total[name] = total.get(name, 0.0) + part
    whole = sum(total.values())
    return {name: part / whole for name, part in sorted(total.items())} if whole > 0.0 else {}


def _component_names(group: Group) -> list[str]:
    return sorted({name for components in group.components_G for name in components})


def _by_component(group: Group, names: Sequence[str]) -> Tensor:
    """Weighted advantages [G, K] of each component by itself."""
    weights = group.component_weights
    q_GK = torch.tensor(
        [
            [components.get(name, float("nan")) for name in names]
            for components in group.components_G
        ],
        dtype=torch.float64,
    ).reshape(len(group.components_G), len(names))
    weights_K = torch.tensor([weights.get(name, 1.0) for name in names], dtype=torch.float64)
    return component_advantages(q_GK, weights_K)


def _token_credit(sequence: TokenSequence, total: Tensor, by_span_P: Tensor) -> Tensor:
    if sequence.spans_T is None:
        return total.expand(sequence.num_trained)
    span_n = torch.from_numpy(sequence.spans_T[sequence.trained_T].astype("int64"))
    return token_credit(span_n, total, by_span_P)


def _penalties(group: Group, rest_S: Tensor) -> Tensor:
    """[G]: the first of `rest_S` to the rollouts with tokens, in order; nothing to the others."""
    is_there_G = torch.tensor([sequence is not None for sequence in group.sequences])
    penalty_G = torch.zeros(len(is_there_G), dtype=torch.float64)
    penalty_G[is_there_G] = rest_S[: int(is_there_G.sum())].double()
    return penalty_G


def _group_credit(
    group: Group, config: AdvantageConfig, shaping: ShapingConfig, penalty_G: Tensor | None = None
) -> _GroupCredit:
    added_G = _shaping(group, shaping)
    if penalty_G is not None:
        added_G = added_G - penalty_G
    if config.kind == "decoupled":
        credit = _decoupled(group, added_G)
    else:
        total_G = group_advantages(
            torch.tensor(group.rewards_G, dtype=torch.float64) + added_G,
            kind=config.kind,
            std_floor=config.std_floor or None,
        )
        credit = _GroupCredit(total_G, total_G.new_zeros((len(total_G), len(SPAN_COMPONENTS))))
    if not shaping.difficulty_weight:
        return credit
    factor = difficulty_factor(sum(group.successes_G) / len(group.successes_G))
    return _GroupCredit(credit.total_G * factor, credit.by_span_GP * factor)


def _decoupled(group: Group, added_G: Tensor) -> _GroupCredit:
    """Components by themselves; what was shaped comes on top, compared but not scaled (ours)."""
    names = _component_names(group)
    by_component_GK = _by_component(group, names)
    shaped_G = added_G + torch.tensor(
        [all_ - rule for all_, rule in zip(group.rewards_G, group.rule_rewards_G, strict=True)],
        dtype=torch.float64,
    )
    columns = [
        by_component_GK[:, names.index(name)] if name in names else torch.zeros_like(shaped_G)
        for name in SPAN_COMPONENTS
    ]
    total_G = by_component_GK.sum(dim=1) + shaped_G - shaped_G.mean()
    return _GroupCredit(total_G, torch.stack(columns, dim=1))


def _shaping(group: Group, config: ShapingConfig) -> Tensor:
    """What lengths add to each valid rollout's reward [G]; one without tokens has length 0."""
    length_G = torch.tensor(group.num_trained_G)
    right_G = torch.tensor(group.successes_G)
    added_G = torch.zeros(len(length_G), dtype=torch.float64)
    if config.overlong_tokens:
        added_G += overlong(length_G, longest=config.overlong_tokens, cache=config.overlong_cache)
    if config.length_weight > 0.0:
        added_G += config.length_weight * kimi_length(length_G, right_G)
    if config.difficulty_weight:
        added_G += shortest_right(length_G, right_G)
    return added_G
