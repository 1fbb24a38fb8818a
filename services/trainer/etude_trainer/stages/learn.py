"""Learn: one training batch in, a changed policy and the step's metrics out.

Advantages, old log-probabilities, then the updates: per mini-batch as many micro-batches as the
token budget wants, one clipped gradient, one AdamW step. Torch only; the network is elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..algorithms.aggregation import Aggregation, token_weights
from ..algorithms.objective import TokenInputs, token_losses
from ..algorithms.schedules import learning_rate
from ..batch import Group, TokenSequence
from ..batching import MicroBatch, TokenTable, build_micro_batch, token_table
from ..config import TrainingConfig
from ..layout import Budget, plan_group
from ..model import Policy
from ..parallel.crew import ALONE, Crew
from ..parallel.sharding import clip_gradients, idle_pass
from ..parallel.shares import share_of
from .credit import Credit, batch_credit, shaping_share
from .tally import Tally, batch_metrics

Progress = Callable[[int, int], None]
"""Called before every pass with passes done and passes in all; may raise to give up the step."""


@dataclass(frozen=True, slots=True)
class Learner:
    """What a step works with."""

    policy: Policy
    optimizer: torch.optim.Optimizer
    reference: Policy | None
    """The frozen model of the KL penalty; null without one."""
    config: TrainingConfig
    shares_prompts: bool
    crew: Crew = ALONE
    """The ranks that learn together, each on its share of a batch."""


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


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A batch, cut into updates."""

    table: TokenTable
    updates: tuple[Update, ...]
    credit: Credit


def make_optimizer(policy: Policy, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW with empty moments; the rate is set at every step."""
    settings = config.optimizer
    return torch.optim.AdamW(
        policy.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def plan_step(groups: Sequence[Group], learner: Learner) -> StepPlan:
    """Cut a batch into updates and passes; weights are fixed here, before any pass runs."""
    config = learner.config
    credit = batch_credit(groups, config.advantage, config.shaping)
    sequences: list[TokenSequence] = []
    members: list[list[tuple[int, TokenSequence]]] = []
    for group in groups:
        own = [sequence for sequence in group.sequences if sequence is not None]
        members.append(list(enumerate(own, start=len(sequences))))
        sequences.extend(own)
    table = token_table(sequences, credit.advantages_S, credit.advantage_N)
    offsets = table.offsets
    budget = Budget(
        max_tokens=config.batch.micro_batch_tokens,
        share_prompts=learner.shares_prompts,
        pair_cost=learner.policy.pair_cost,
    )
    per_update = config.batch.mini_batch_groups or max(1, len(groups))
    updates: list[Update] = []
    for first in range(0, len(groups), per_update):
        chosen = [group for group in members[first : first + per_update] if group]
        if not chosen:
            continue
        rows = [row for group in chosen for row in plan_group(group, budget)]
        begin, end = chosen[0][0][0], chosen[-1][-1][0] + 1
        lengths_s = table.lengths_S[begin:end]
        sizes = torch.tensor([len(group) for group in chosen])
        groups_s = torch.arange(len(chosen)).repeat_interleave(sizes)
        part = slice(offsets[begin], offsets[end])
        kinds: tuple[Aggregation, ...] = (
            config.objective.aggregation,
            "token_mean",
            "sequence_mean",
        )
        weights_3N = torch.zeros((len(kinds), offsets[-1]), dtype=torch.float64)
        for row, kind in enumerate(kinds):
            weights_3N[row, part] = token_weights(
                lengths_s,
                groups_s,
                aggregation=kind,
                max_tokens=config.objective.max_completion_tokens,
            )
        share = share_of(rows, budget, rank=learner.crew.rank, num_ranks=learner.crew.size)
        batches = tuple(
            build_micro_batch(packed_rows, sequences, offsets)
            for packed_rows in share.micro_batches
        )
        updates.append(Update(batches, share.num_idle, *weights_3N.float()))
    return StepPlan(table, tuple(updates), credit)


def score(
    policy: Policy, plan: StepPlan, progress: Callable[[], None], *, crew: Crew = ALONE
) -> Tensor:
    """Log-probabilities [N] of the step's tokens under a policy, without gradient."""
    lp_N = torch.zeros(len(plan.table.sequence_N))
    with torch.no_grad():
        for update in plan.updates:
            for micro in update.micro_batches:
                progress()
                lp_n, _ = policy.token_logprobs(micro.to(policy.device))
                lp_N[micro.token_n] = lp_n.cpu()
            for _ in range(update.num_idle):
                progress()
                idle_pass(policy)
    return crew.sum(lp_N)


def learn(
    learner: Learner, groups: Sequence[Group], *, step: int, progress: Progress
) -> dict[str, float]:
    """Train on a batch; returns the step's metrics (see `tally.py`).

    Where a batch is a single update, the policy of its forward pass is the old policy, and no
    second pass is needed for the old log-probabilities: they are the new ones without gradient.

    Args:
        step: t of the learning-rate schedule: the policy version that the batch was leased at.
    """
    config = learner.config
    plan = plan_step(groups, learner)
    updates = plan.updates * config.batch.inner_epochs
    is_single = len(updates) == 1
    passes = sum(len(update.micro_batches) + update.num_idle for update in plan.updates)
    num_scores = (0 if is_single else passes) + (passes if learner.reference else 0)
    total = num_scores + passes * config.batch.inner_epochs
    done = 0

    def advance() -> None:
        nonlocal done
        progress(done, total)
        done += 1

    rate = learning_rate(step, base=config.optimizer.lr, schedule=config.optimizer.rates())
    for parameters in learner.optimizer.param_groups:
        parameters["lr"] = rate
    lp_old_N = None if is_single else score(learner.policy, plan, advance, crew=learner.crew)
    lp_ref_N = (
        score(learner.reference, plan, advance, crew=learner.crew) if learner.reference else None
    )
    tally = Tally()
    for update in updates:
        learner.optimizer.zero_grad(set_to_none=True)
        for micro in update.micro_batches:
            advance()
            _pass(learner, plan, update, micro, fixed=(lp_old_N, lp_ref_N), tally=tally)
        for _ in range(update.num_idle):
            advance()
            idle_pass(learner.policy)
        norm = clip_gradients(learner.policy.parameters(), config.optimizer.max_grad_norm)
        is_finite = math.isfinite(norm)
        tally.add_update(norm)
        if is_finite:
            learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    tally.join(learner.crew)
    metrics = batch_metrics(groups, plan.credit)
    metrics["shaping_share"] = shaping_share(groups, config.advantage, config.shaping)
    return {**metrics, **tally.metrics(), "lr": rate}


def _pass(
    learner: Learner,
    plan: StepPlan,
    update: Update,
    micro: MicroBatch,
    *,
    fixed: tuple[Tensor | None, Tensor | None],
    tally: Tally,
) -> None:
    """Forward and backward of one micro-batch; gradients add up."""
    objective = learner.config.objective.settings()
    device = learner.policy.device
    with_entropy = objective.entropy_coef > 0.0
    lp_new_n, entropy_n = learner.policy.token_logprobs(micro.to(device), entropy=with_entropy)
    lp_old_N, lp_ref_N = fixed
    n = micro.token_n

    def here(values_N: Tensor) -> Tensor:
        return values_N[n].to(device)

    inputs = TokenInputs(
        lp_new_N=lp_new_n,
        lp_old_N=lp_new_n.detach() if lp_old_N is None else here(lp_old_N),
        lp_rollout_N=here(plan.table.lp_rollout_N),
        advantage_N=here(plan.table.advantage_N),
        sequence_N=here(plan.table.sequence_N),
        lp_ref_N=None if lp_ref_N is None else here(lp_ref_N),
        entropy_N=entropy_n,
    )
    losses = token_losses(inputs, objective)
    weight_n = here(update.weight_N)
    loss = (weight_n * losses.loss_N).sum()
    loss.backward()
    tally.add(inputs, losses, loss=float(loss.detach()))
    losses_n = losses.loss_N.detach()
    tally.add_both(
        by_token=float((here(update.by_token_N) * losses_n).sum()),
        by_group=float((here(update.by_group_N) * losses_n).sum()),
    )
