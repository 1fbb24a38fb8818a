"""Tables of what a step computes: advantages, shaping, objective, optimizer.

Part of `TrainingConfig` (`__init__.py`); the formulas are `algorithms/`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..algorithms.advantages import AdvantageKind
from ..algorithms.aggregation import Aggregation
from ..algorithms.objective import ObjectiveSettings
from ..algorithms.schedules import Schedule, ScheduleKind

Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Table(BaseModel):
    """A table of the file: what it does not know is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class AdvantageConfig(Table):
    """`[advantage]`: how rewards of a group become advantages."""

    kind: AdvantageKind | Literal["decoupled"] = "grpo"
    """`grpo`: (R - mean) / (sample std + 1e-6); `dr_grpo`: R - mean; `decoupled`: that of `grpo`
    for each reward component by itself, weighted by the lease's component weights and summed. For
    `decoupled` use a run whose gate is `zero_variance` with knob `on: components`."""
    credit: Literal["sequence", "spans"] = "sequence"
    """`spans`, for `decoupled` only: a component's part goes only to the tokens that it judges
    (tags, tool name, parameter names, values), the sum to all others. The run's reward must ask for
    spans."""
    std_floor: float = Field(default=0.0, ge=0.0)
    """Above 0: divide by max(sample std, std_floor) instead; .1 suits a 0/1 reward, .3 ToolRL's
    scale."""
    whiten: bool | None = None
    """Shift and scale the advantages of the whole batch to mean 0 and deviation 1 afterwards; not
    given: for `decoupled` only."""

    @property
    def whitens(self) -> bool:
        """Whether the batch is whitened."""
        return self.kind == "decoupled" if self.whiten is None else self.whiten

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "dr_grpo" and self.std_floor > 0.0:
            raise ValueError("std_floor does not apply to kind dr_grpo, which divides by nothing")
        if self.kind == "decoupled" and self.std_floor > 0.0:
            raise ValueError(
                "std_floor does not apply to kind decoupled: a component is 0 or 1 wide"
            )
        if self.kind != "decoupled" and self.credit == "spans":
            raise ValueError("credit spans needs kind decoupled: one reward has no parts to give")
        if not self.whitens and self.credit == "spans":
            raise ValueError("credit spans needs whiten: parts and sum share the batch's scale")
        return self


class ShapingConfig(Table):
    """`[shaping]`: what lengths add to a reward before its advantage; statistics never see it."""

    overlong_tokens: int = Field(default=0, ge=0)
    """Above 0: the longest completion allowed, Lmax; DAPO's penalty rises over the last
    `overlong_cache` tokens before it to 1."""
    overlong_cache: int = Field(default=4096, ge=1)
    """Lc of that penalty."""
    length_weight: float = Field(default=0.0, ge=0.0)
    """Weight of Kimi k1.5's length reward: +.5 for the shortest of a group to -.5 for the longest,
    never above 0 for wrong ones; 0 is none."""
    difficulty_weight: bool = False
    """Observe-R1: scale a group's advantages by 7.2 p (1 - p), p its share of successes, and add .2
    to the shortest right completion over 100 tokens."""

    @model_validator(mode="after")
    def _cache_fits(self) -> Self:
        if 0 < self.overlong_tokens < self.overlong_cache:
            raise ValueError("overlong_cache must not exceed overlong_tokens")
        return self


class ObjectiveConfig(Table):
    """`[objective]`: the loss of a token and how tokens are averaged."""

    clip_low: Share = 0.2
    """The ratio is clipped at 1 - clip_low from below."""
    clip_high: Positive = 0.2
    """The ratio is clipped at 1 + clip_high from above."""
    importance_cap: float = Field(default=2.0, ge=0.0)
    """Cap of the importance weight exp(lp_trainer - lp_rollout) of a token; 0 is no weight."""
    kl_beta: float = Field(default=0.0, ge=0.0)
    """Weight of the KL penalty (k3) against the model given with `--model`; 0 is none and loads no
    reference."""
    entropy_coef: float = Field(default=0.0, ge=0.0)
    """Weight of the entropy bonus; 0 is none."""
    aggregation: Aggregation = "token_mean"
    """`token_mean` over the mini-batch's tokens, `sequence_mean` over sequences of their token
    means, `dr_grpo`: sum / (sequences x max_completion_tokens). But for `token_mean`, groups of
    unequal size weigh equally."""
    max_completion_tokens: int = Field(default=1024, ge=1)
    """L_max of `dr_grpo`."""

    def settings(self) -> ObjectiveSettings:
        """The constants as the objective takes them."""
        return ObjectiveSettings(
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            importance_cap=self.importance_cap or None,
            kl_beta=self.kl_beta,
            entropy_coef=self.entropy_coef,
        )


class OptimizerConfig(Table):
    """`[optimizer]`: AdamW, its learning rate and the gradient clip."""

    lr: Positive = 1e-6
    """Base learning rate."""
    schedule: ScheduleKind = "constant"
    """`constant`, or `exponential`: max(lr_floor, lr_factor ^ floor(step / lr_period_steps))."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises linearly."""
    lr_factor: float = Field(default=0.85, gt=0.0, le=1.0)
    """Factor of the exponential schedule."""
    lr_period_steps: int = Field(default=7, ge=1)
    """Steps between two decays."""
    lr_floor: Share = 0.1
    """Smallest share of the base rate."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""
    eps: Positive = 1e-8
    """Added to AdamW's denominator."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """The gradient's norm is clipped to this."""

    def rates(self) -> Schedule:
        """The learning rate's shape as the schedule takes it."""
        return Schedule(
            kind=self.schedule,
            warmup_steps=self.warmup_steps,
            factor=self.lr_factor,
            period_steps=self.lr_period_steps,
            floor=self.lr_floor,
        )
