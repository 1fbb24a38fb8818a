"""Tables of what a step computes: advantages, shaping, objective, optimizer.

Part of `TrainingConfig` (`__init__.py`); the formulas are `algorithms/`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..algorithms.advantages import AdvantageKind
from ..algorithms.aggregation import Aggregation
from ..algorithms.objective import ObjectiveSettings, RatioKind
from ..algorithms.resets import ResetSettings
from ..algorithms.schedules import Schedule, ScheduleKind
from ..variants import VARIANTS, VariantName

Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

MAX_SEQUENCE_CLIP: Final = 0.01
"""Widest clip of a sequence's ratio: .2 would never clip anything (our bound)."""


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
    shared_prefix: Literal["soft", "hard"] = "soft"
    """Of tokens that a branch shares with the rollout it was cloned from (ARPO): `soft` gives each
    copy its own rollout's advantage, `hard` the mean of all that go through it."""
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
        if self.shared_prefix == "hard" and self.credit == "spans":
            raise ValueError("shared_prefix hard needs credit sequence: tokens have one mean")
        if not self.whitens and self.credit == "spans":
            raise ValueError("credit spans needs whiten: parts and sum share the batch's scale")
        return self


class ShapingConfig(Table):
    """`[shaping]`: what lengths add to a reward before its advantage; statistics never see it."""

    mask_truncated: bool = False
    """Rollouts that were cut off at the longest completion leave the loss; their rewards stay in
    their group's mean (DAPO's overlong filtering)."""
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
    reference_kl: float = Field(default=0.0, ge=0.0)
    """Takes this times the sum of lp_old - lp_reference over its tokens from a rollout's reward, as
    ToolRL's released script does. In a group of equal rewards that is all there is, and it is
    blown up to full size."""

    @model_validator(mode="after")
    def _whole_rollouts(self) -> Self:
        if self.mask_truncated and self.reference_kl > 0.0:
            raise ValueError("reference_kl needs every rollout: switch mask_truncated off")
        return self

    @model_validator(mode="after")
    def _cache_fits(self) -> Self:
        if 0 < self.overlong_tokens < self.overlong_cache:
            raise ValueError("overlong_cache must not exceed overlong_tokens")
        return self


class ObjectiveConfig(Table):
    """`[objective]`: the loss of a token and how tokens are averaged."""

    variant: VariantName | None = None
    """Fills in `ratio`, `aggregation` and the advantage's kind: `grpo`, `dr_grpo`, `bnpo`, `dapo`
    (token mean) or `gspo` (sequence ratio, and a clip of its order)."""
    ratio: RatioKind = "token"
    """`token`: exp(lp_new - lp_old); `sequence`: exp of its mean over the sequence (GSPO)."""
    clip_low: Share = 0.2
    """The ratio is clipped at 1 - clip_low from below."""
    clip_high: Positive = 0.2
    """The ratio is clipped at 1 + clip_high from above."""
    dual_clip: float = Field(default=0.0, ge=0.0)
    """Above 0: for negative advantages a token's loss is at most this times -A; 3 is usual."""
    importance_cap: float = Field(default=2.0, ge=0.0)
    """Cap of the importance weight exp(lp_trainer - lp_rollout) of a token; 0 is no weight."""
    kl_beta: float = Field(default=0.0, ge=0.0)
    """Weight of the KL penalty (k3) against the model given with `--model`; 0 is none and loads no
    reference."""
    entropy_coef: float = Field(default=0.0, ge=0.0)
    """Weight of the entropy bonus; 0 is none."""
    aggregation: Aggregation = "token_mean"
    """`token_mean` over the mini-batch's tokens; `local_token_mean`: mean over blocks of
    `local_sequences` of their token means; `sequence_mean` over sequences of their token means;
    `dr_grpo`: sum / (sequences x max_completion_tokens). Under the last two, groups of unequal size
    weigh equally."""
    local_sequences: int = Field(default=0, ge=0)
    """Sequences of a block of `local_token_mean`, in the batch's order; 0 is the mini-batch."""
    max_completion_tokens: int = Field(default=1024, ge=1)
    """L_max of `dr_grpo`."""
    max_gap_nats: float = Field(default=1.0, ge=0.0)
    """A batch is given back, and the trainer stops, if the trainer's log-probabilities and the
    engine's differ by more than this on average over tokens of the batch's own policy version:
    another model, vocabulary or temperature. 0 is no check."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        meant = VARIANTS[self.variant]["objective"] if self.variant else {}
        for name in ("ratio", "aggregation"):
            if getattr(self, name) != meant.get(name, getattr(self, name)):
                raise ValueError(
                    f"variant {self.variant} means {name} {meant[name]!r}: give one of the two"
                )
        if self.ratio == "sequence" and max(self.clip_low, self.clip_high) > MAX_SEQUENCE_CLIP:
            raise ValueError(
                "ratio sequence is a mean over tokens: clip_low and clip_high must be of the order "
                f"of 3e-4, at most {MAX_SEQUENCE_CLIP}"
            )
        if 0.0 < self.dual_clip <= 1.0 + self.clip_high:
            raise ValueError("dual_clip must exceed 1 + clip_high")
        return self

    def settings(self) -> ObjectiveSettings:
        """The constants as the objective takes them."""
        return ObjectiveSettings(
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            importance_cap=self.importance_cap or None,
            kl_beta=self.kl_beta,
            entropy_coef=self.entropy_coef,
            ratio=self.ratio,
            dual_clip=self.dual_clip or None,
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


class ResetsConfig(Table):
    """`[resets]`: when the KL penalty's reference becomes the policy, and AdamW starts anew."""

    enabled: bool = False
    """Whether that happens at all (ProRL); needs `objective.kl_beta`. When: no new best validation
    mean in `patience_steps`, or a KL above `kl_factor` times its median over `kl_window` steps."""
    patience_steps: int = Field(default=100, ge=1)
    """Steps without a new best mean."""
    kl_factor: float = Field(default=3.0, gt=1.0)
    """Times the median."""
    kl_window: int = Field(default=50, ge=2, le=1000)
    """Steps of the median; before so many were seen it says nothing."""
    min_apart_steps: int = Field(default=200, ge=1)
    """Steps between two resets; the first steps count as after one."""
    measure: Literal["control_arm", "evaluations"] = "control_arm"
    """The validation mean: success of the control arm, of training tasks; or the newest mean that
    an evaluation of a published version found (`[validation]`), of the benchmark seen first."""
    validation_versions: int = Field(default=20, ge=1, le=1000)
    """For `control_arm`: the mean is the success rate of the run's control arm (slots drawn
    uniformly, before any gate, prompts without help) over so many policy versions."""

    def settings(self) -> ResetSettings:
        """The constants as the detector takes them."""
        return ResetSettings(
            patience_steps=self.patience_steps,
            kl_factor=self.kl_factor,
            kl_window=self.kl_window,
            min_apart_steps=self.min_apart_steps,
        )
