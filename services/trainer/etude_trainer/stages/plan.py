"""Plan: a training batch cut into updates and passes, with what every token weighs and is worth.

Made before anything is computed, so that neither the packing of sequences nor the number of ranks
changes the mathematics. `stages/learn.py` carries it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..algorithms.aggregation import Aggregation, token_weights
from ..batch import Group, TokenSequence
from ..batching import MicroBatch, TokenTable, build_micro_batch, token_table
from ..layout import Budget, plan_group
from ..learner import Learner
from ..parallel.shares import share_of
from ..throughput import PassWork
from .credit import Credit, batch_credit


@dataclass(frozen=True, slots=True)
class Update:
    """The sequences of one optimizer step and the passes that cover this rank's share of them."""

    micro_batches: tuple[MicroBatch, ...]
    num_idle: int
    """Passes without a token that follow, so that every rank makes as many."""
    weight_N: Tensor
    """Weight of every token of the step; 0 for tokens of other updates."""
    by_token_N: Tensor
    """The weight if every token counted alike; for the metrics."""
    by_group_N: Tensor
    """The weight if every group counted alike; for the metrics."""

    @property
    def num_passes(self) -> int:
        """Forward passes, idle ones included."""
        return len(self.micro_batches) + self.num_idle


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A batch, cut into updates."""

    groups: tuple[Group, ...]
    """What is trained on: without the rollouts that left the loss."""
    table: TokenTable
    updates: tuple[Update, ...]
    credit: Credit
    fresh_N: Tensor
    """Tokens of the batch's own policy version."""

    @property
    def num_passes(self) -> int:
        """Forward passes over all sequences once."""
        return sum(update.num_passes for update in self.updates)

    @property
    def work(self) -> PassWork:
        """What this rank computes when it goes over its sequences once."""
        passes = [micro.work for update in self.updates for micro in update.micro_batches]
        return sum(passes, PassWork())

    @property
    def largest_pass(self) -> int:
        """Positions, padding included, of the largest pass."""
        sizes = [micro.ids_BL.numel() for update in self.updates for micro in update.micro_batches]
        return max(sizes, default=0)


def plan_step(
    groups: Sequence[Group], learner: Learner, penalty_S: Tensor | None = None
) -> StepPlan:
    """Cut a batch into updates and passes; weights are fixed here, before any pass runs.

    Args:
        groups: the batch, as decoded.
        learner: whose configuration and room for passes count.
        penalty_S: taken from every trained sequence's reward before its advantage.
    """
    config = learner.config
    if config.shaping.mask_truncated:
        groups = [group.without_truncated() for group in groups]
    credit = batch_credit(groups, config.advantage, config.shaping, penalty_S)
    sequences: list[TokenSequence] = []
    members: list[list[tuple[int, TokenSequence]]] = []
    for group in groups:
        own = [sequence for sequence in group.sequences if sequence is not None]
        members.append(list(enumerate(own, start=len(sequences))))
        sequences.extend(own)
    table = token_table(sequences, credit.advantages_S, credit.advantage_N)
    budget = Budget(
        max_tokens=learner.room.max_tokens or config.batch.micro_batch_tokens,
        share_prompts=learner.shares_prompts,
        pair_cost=learner.policy.pair_cost,
        uses_lines=learner.policy.uses_lines,
    )
    per_update = config.batch.mini_batch_groups or max(1, len(groups))
    updates: list[Update] = []
    for first in range(0, len(groups), per_update):
        chosen = [group for group in members[first : first + per_update] if group]
        if not chosen:
            continue
        rows = [row for group in chosen for row in plan_group(group, budget)]
        share = share_of(rows, budget, rank=learner.crew.rank, num_ranks=learner.crew.size)
        batches = tuple(
            build_micro_batch(packed, sequences, table.offsets, as_line=budget.uses_lines)
            for packed in share.micro_batches
        )
        weights_3N = _weights(chosen, table, learner)
        updates.append(Update(batches, share.num_idle, *weights_3N))
    return StepPlan(tuple(groups), table, tuple(updates), credit, _fresh(sequences))


def _weights(
    chosen: Sequence[Sequence[tuple[int, TokenSequence]]], table: TokenTable, learner: Learner
) -> Tensor:
    """[3, N]: what each token of an update weighs as configured, by token and by group."""
    objective = learner.config.objective
    offsets = table.offsets
    begin, end = chosen[0][0][0], chosen[-1][-1][0] + 1
    sizes = torch.tensor([len(group) for group in chosen])
    groups_s = torch.arange(len(chosen)).repeat_interleave(sizes)
    kinds: tuple[Aggregation, ...] = (objective.aggregation, "token_mean", "sequence_mean")
    weights_3N = torch.zeros((len(kinds), offsets[-1]), dtype=torch.float64)
    for row, kind in enumerate(kinds):
        weights_3N[row, offsets[begin] : offsets[end]] = token_weights(
            table.lengths_S[begin:end],
            groups_s,
            aggregation=kind,
            max_tokens=objective.max_completion_tokens,
            local_sequences=objective.local_sequences,
        )
    return weights_3N.float()


def _fresh(sequences: Sequence[TokenSequence]) -> Tensor:
    """[N]: whether a token is of the batch's own version; where that is not known, it is not."""
    flat = [
        (sequence.lag_T[sequence.trained_T] == 0)
        if sequence.lag_T is not None
        else np.zeros(sequence.num_trained, dtype=np.bool_)
        for sequence in sequences
    ]
    return torch.from_numpy(np.concatenate(flat) if flat else np.zeros(0, dtype=np.bool_))
