"""Learn: one training batch in, a changed policy and the step's metrics out.

Old log-probabilities, then the updates: per mini-batch as many micro-batches as the token budget
wants, one clipped gradient, one AdamW step. How the batch is cut is `plan.py`, what happens when
memory runs out `room.py`; the network is elsewhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ..algorithms.objective import TokenInputs, token_losses
from ..algorithms.schedules import learning_rate
from ..batch import Group
from ..batching import MicroBatch
from ..errors import ModelMismatch
from ..learner import Learner, make_optimizer
from ..model import Policy
from ..parallel.crew import ALONE, Crew
from ..parallel.sharding import clip_gradients, idle_pass
from ..throughput import forward_flops, training_flops
from .credit import shaping_share
from .plan import StepPlan, Update, plan_step
from .room import make_pass, within_memory
from .tally import Tally, batch_metrics

__all__ = [
    "Fixed",
    "Learner",
    "Progress",
    "learn",
    "make_optimizer",
    "plan_step",
    "run_pass",
    "score",
]

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Called before every pass with passes done and passes in all; may raise to give up the step."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Log-probabilities [N] that do not change during a step."""

    lp_old_N: Tensor | None
    """Under the policy before the step; None: the only update's own, without gradient."""
    lp_ref_N: Tensor | None
    """Under the reference; None without one."""


def score(
    policy: Policy, plan: StepPlan, progress: Callable[[], None], *, crew: Crew = ALONE
) -> Tensor:
    """Log-probabilities [N] of the step's tokens under a policy, without gradient.

    Raises:
        PassTooLarge: memory ran out.
    """
    lp_N = torch.zeros(len(plan.table.sequence_N))

    def one(micro: MicroBatch) -> None:
        lp_n, _ = policy.token_logprobs(micro.to(policy.device))
        lp_N[micro.token_n] = lp_n.cpu()

    with torch.no_grad():
        for update in plan.updates:
            for micro in update.micro_batches:
                progress()
                make_pass(policy, partial(one, micro), crew=crew)
            for _ in range(update.num_idle):
                progress()
                make_pass(policy, partial(idle_pass, policy), crew=crew)
    return crew.sum(lp_N)


def learn(
    learner: Learner, groups: Sequence[Group], *, step: int, progress: Progress
) -> dict[str, float]:
    """Train on a batch; returns the step's metrics (see `tally.py`).

    Where a batch is a single update, the policy of its forward pass is the old policy, and no
    second pass is needed for the old log-probabilities: they are the new ones without gradient.

    Args:
        learner: changed in place; untouched if this raises before the first update is done.
        groups: the batch.
        step: t of the learning-rate schedule: the policy version that the batch was leased at.
        progress: called before every pass.

    Raises:
        ModelMismatch: the engine sampled from another distribution than this model's.
        OutOfMemory: not even a single sequence fits a pass.
    """
    config = learner.config
    rate = learning_rate(step, base=config.optimizer.lr, schedule=config.optimizer.rates())
    for parameters in learner.optimizer.param_groups:
        parameters["lr"] = rate
    running = _Step(learner, groups, progress)
    fixed = running.score()
    for number in range(running.num_updates):
        running.update(number % len(running.plan.updates), fixed)
    learner.optimizer.zero_grad(set_to_none=True)
    plan, tally = running.plan, running.tally
    tally.join(learner.crew)
    metrics = batch_metrics(plan.groups, plan.credit)
    metrics["shaping_share"] = shaping_share(groups, config.advantage, config.shaping)
    if running.penalty_S is not None and len(running.penalty_S):
        metrics["reference_penalty_mean"] = float(running.penalty_S.mean())
    own = {"lr": rate, "micro_batch_tokens": float(plan.largest_pass)}
    return {**metrics, **tally.metrics(), **own, **running.work()}


class _Step:
    """A step under way: its plan, which may be made anew, and its sums."""

    def __init__(self, learner: Learner, groups: Sequence[Group], progress: Progress) -> None:
        config = learner.config
        self.learner = learner
        self.plan = plan_step(groups, learner)
        self.tally = Tally()
        self.penalty_S: Tensor | None = None
        """Taken from the sequences' rewards."""
        self.num_updates = len(self.plan.updates) * config.batch.inner_epochs
        self._groups = groups
        self._progress = progress
        self._is_single = self.num_updates == 1 and config.shaping.reference_kl == 0.0
        self._num_scores = (0 if self._is_single else 1) + (1 if learner.reference else 0)
        self._total = self.plan.num_passes * (self._num_scores + config.batch.inner_epochs)
        self._done = 0

    def score(self) -> Fixed:
        """Old and reference log-probabilities, and what is taken from rewards for them."""
        learner, shaping = self.learner, self.learner.config.shaping
        lp_old_N = lp_ref_N = None
        if not self._is_single:
            lp_old_N = self._fit(self._scored(learner.policy))
            check_gap(self.plan, lp_old_N, learner)
        if learner.reference is not None:
            lp_ref_N = self._fit(self._scored(learner.reference))
        if shaping.reference_kl > 0.0:
            assert lp_old_N is not None
            assert lp_ref_N is not None
            self.penalty_S = shaping.reference_kl * _sums(self.plan, lp_old_N - lp_ref_N)
            self.plan = self._again()
        return Fixed(lp_old_N, lp_ref_N)

    def update(self, index: int, fixed: Fixed) -> None:
        """The passes of one update, and the step of the optimizer."""
        learner = self.learner

        def passes(plan: StepPlan) -> Tally:
            learner.optimizer.zero_grad(set_to_none=True)
            trial = copy.deepcopy(self.tally)
            update = plan.updates[index]
            policy, crew = learner.policy, learner.crew
            run = partial(run_pass, learner, plan, update, fixed=fixed, tally=trial)
            for micro in update.micro_batches:
                self._advance()
                make_pass(policy, partial(run, micro), crew=crew)
            for _ in range(update.num_idle):
                self._advance()
                make_pass(policy, partial(idle_pass, policy), crew=crew)
            return trial

        self.tally = self._fit(passes)
        if self._is_single:
            total = learner.crew.sum(torch.tensor(self.tally.gap_fresh, dtype=torch.float64))
            _check_mean(total, learner)
        norm = clip_gradients(learner.policy.parameters(), learner.config.optimizer.max_grad_norm)
        self.tally.add_update(norm)
        if math.isfinite(norm):
            learner.optimizer.step()

    def work(self) -> dict[str, float]:
        """What the whole step computed, on all ranks; seconds are for the caller to divide by."""
        learner, work, cost = self.learner, self.plan.work, self.learner.policy.cost
        flops = self._num_scores * forward_flops(cost, work)
        flops += learner.config.batch.inner_epochs * training_flops(cost, work)
        own = [flops, float(work.num_tokens), float(work.num_padded)]
        flops, computed, padded = learner.crew.sum(torch.tensor(own, dtype=torch.float64)).tolist()
        return {
            "flops": flops,
            "num_tokens_computed": computed,
            "padding_share": 1.0 - computed / padded if padded else 0.0,
        }

    def _scored(self, policy: Policy) -> Callable[[StepPlan], Tensor]:
        return lambda plan: score(policy, plan, self._advance, crew=self.learner.crew)

    def _fit(self, work: Callable[[StepPlan], T]) -> T:
        self.plan, found = within_memory(self.learner, self.plan, work, again=self._again)
        return found

    def _again(self) -> StepPlan:
        return plan_step(self._groups, self.learner, self.penalty_S)

    def _advance(self) -> None:
        """Tell the progress; more than was planned where passes had to shrink."""
        self._progress(self._done, max(self._total, self._done + 1))
        self._done += 1


def check_gap(plan: StepPlan, lp_old_N: Tensor, learner: Learner) -> None:
    """Compare trainer and engine on tokens that this very policy version sampled.

    Raises:
        ModelMismatch: their log-probabilities differ by more than `objective.max_gap_nats`.
    """
    gap_n = (lp_old_N - plan.table.lp_rollout_N).abs()[plan.fresh_N]
    _check_mean(torch.tensor([float(gap_n.double().sum()), len(gap_n)]), learner)


def _check_mean(total: Tensor, learner: Learner) -> None:
    """`total`: sum of the gaps over all ranks' tokens, and how many there are."""
    limit = learner.config.objective.max_gap_nats
    mean = float(total[0]) / max(1.0, float(total[1]))
    if limit > 0.0 and not mean <= limit:
        raise ModelMismatch(
            f"log-probabilities of tokens that this policy version sampled are {mean:.2f} nats off "
            f"on average (objective.max_gap_nats is {limit:g}): the workers run another model, "
            "vocabulary or temperature (model.temperature here, ETUDE_TEMPERATURE there)"
        )


def _sums(plan: StepPlan, values_N: Tensor) -> Tensor:
    """[S]: sums over the tokens of each sequence."""
    sums_S = torch.zeros(len(plan.table.lengths_S), dtype=torch.float64)
    return sums_S.index_add(0, plan.table.sequence_N, values_N.double())


def run_pass(
    learner: Learner,
    plan: StepPlan,
    update: Update,
    micro: MicroBatch,
    *,
    fixed: Fixed,
    tally: Tally,
) -> None:
    """Forward and backward of one micro-batch; gradients add up."""
    objective = learner.config.objective.settings()
    device = learner.policy.device
    with_entropy = objective.entropy_coef > 0.0
    lp_new_n, entropy_n = learner.policy.token_logprobs(micro.to(device), entropy=with_entropy)
    n = micro.token_n

    def here(values_N: Tensor) -> Tensor:
        return values_N[n].to(device)

    inputs = TokenInputs(
        lp_new_N=lp_new_n,
        lp_old_N=lp_new_n.detach() if fixed.lp_old_N is None else here(fixed.lp_old_N),
        lp_rollout_N=here(plan.table.lp_rollout_N),
        advantage_N=here(plan.table.advantage_N),
        sequence_N=here(plan.table.sequence_N),
        lp_ref_N=None if fixed.lp_ref_N is None else here(fixed.lp_ref_N),
        entropy_N=entropy_n,
    )
    losses = token_losses(inputs, objective)
    weight_n = here(update.weight_N)
    loss = (weight_n * losses.loss_N).sum()
    loss.backward()
    tally.add(inputs, losses, loss=float(loss.detach()), fresh_N=here(plan.fresh_N))
    losses_n = losses.loss_N.detach()
    tally.add_both(
        by_token=float((here(update.by_token_N) * losses_n).sum()),
        by_group=float((here(update.by_group_N) * losses_n).sum()),
    )
