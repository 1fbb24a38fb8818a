"""Named training configurations: the constants of algorithms.md, section 7, column by column.

`PRESETS` is read by `config/__init__.py`, where every field is explained; a preset gives only what
differs from the field's own default or what a paper states. What belongs to the run and to its
rollout workers is `RUN_SHAPES`, which `agreement.py` compares with the run that is joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

DEFAULT_PRESET: Final = "toolrl"

_ADAMW: Final[dict[str, object]] = {
    "schedule": "constant",
    "betas": (0.9, 0.999),
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
}

# ToolRL (2504.13958), as in its released scripts, without their KL term in the reward. Their token
# mean is per micro-batch, whose size the specification does not give: here the mini-batch is one
# block (our choice).
_TOOLRL: Final[dict[str, dict[str, object]]] = {
    "objective": {
        "variant": "bnpo",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "kl_beta": 0.0,
        "entropy_coef": 0.001,
        "max_completion_tokens": 1024,
    },
    "optimizer": {"lr": 1e-6, **_ADAMW},
    "batch": {"mini_batch_groups": 128, "inner_epochs": 1},
    "model": {"temperature": 1.0},
}

PRESETS: Final[dict[str, dict[str, dict[str, object]]]] = {
    "toolrl": _TOOLRL,
    # The same with the KL term of the published script, for comparisons only.
    "toolrl_released": {**_TOOLRL, "shaping": {"reference_kl": 0.001}},
    # ToolExpander (2510.07737): no KL, adjusted clip, exponential decay are the paper's; the clip
    # values, the decay's constants and the floor (0/1 reward) are our choice (sections 4.3, 4.4).
    "toolexpander": {
        "advantage": {"std_floor": 0.1},
        "objective": {
            "variant": "dapo",
            "clip_low": 0.2,
            "clip_high": 0.28,
            "kl_beta": 0.0,
            "entropy_coef": 0.0,
            "max_completion_tokens": 1024,
        },
        "optimizer": {
            **_ADAMW,
            "lr": 1e-6,
            "schedule": "exponential",
            "lr_factor": 0.85,
            "lr_period_steps": 7,
            "lr_floor": 0.1,
        },
        "batch": {"mini_batch_groups": 128, "inner_epochs": 1},
        "model": {"temperature": 1.0},
    },
    # ProRL (2505.24864); when the reference is reset is our choice (`[resets]`). Betas, decay and
    # gradient clip are not stated: the trainer's own.
    "prorl": {
        "objective": {
            "variant": "grpo",
            "clip_low": 0.2,
            "clip_high": 0.4,
            "kl_beta": 1e-4,
            "entropy_coef": 0.0,
        },
        "optimizer": {**_ADAMW, "lr": 2e-6},
        "batch": {"mini_batch_groups": 64, "inner_epochs": 1},
        "resets": {"enabled": True},
        "model": {"temperature": 1.2},
    },
    # DAPO (2503.14476). A mini-batch of 512 sequences is 32 groups of 16.
    "dapo": {
        "shaping": {"overlong_tokens": 20480, "overlong_cache": 4096},
        "objective": {
            "variant": "dapo",
            "clip_low": 0.2,
            "clip_high": 0.28,
            "kl_beta": 0.0,
            "entropy_coef": 0.0,
            "max_completion_tokens": 20480,
        },
        "optimizer": {**_ADAMW, "lr": 1e-6, "warmup_steps": 20},
        "batch": {"mini_batch_groups": 32, "inner_epochs": 1},
        "model": {"temperature": 1.0},
    },
}
"""Preset name -> table -> values."""


@dataclass(frozen=True, slots=True)
class RunShape:
    """A preset's constants that the run and its workers decide; None is not stated."""

    group_size: int
    """G: the run's `group_size`."""
    tasks_per_step: int
    """The run's `limits.training_batch_groups`."""
    temperature: float
    """Of sampling: `ETUDE_TEMPERATURE` of the workers."""
    over_draw: float | None = None
    """Groups drawn per group needed: `limits.refill_over_draw`."""
    refill_rounds: int | None = None
    """Generation batches after the first: `limits.refill_rounds`."""
    gate: Literal["none", "zero_variance", "dapo"] | None = None
    """The run's gate."""
    reward_mode: Literal["parity", "robust"] | None = None
    """The run's `reward.mode`."""
    max_prompt_tokens: int | None = None
    """`ETUDE_MAX_PROMPT_TOKENS` of the workers."""
    max_completion_tokens: int | None = None
    """`ETUDE_MAX_NEW_TOKENS` of the workers."""
    num_steps: int | None = None
    """Training batches of the paper's run: `--max-steps`."""


_TOOLRL_RUN: Final = RunShape(
    group_size=4,
    tasks_per_step=512,
    temperature=1.0,
    gate="none",
    reward_mode="parity",
    max_prompt_tokens=2048,
    max_completion_tokens=1024,
    num_steps=104,
)

RUN_SHAPES: Final[dict[str, RunShape]] = {
    "toolrl": _TOOLRL_RUN,
    "toolrl_released": _TOOLRL_RUN,
    "toolexpander": RunShape(
        group_size=10,
        tasks_per_step=512,
        temperature=1.0,
        gate="zero_variance",
        max_prompt_tokens=2048,
        max_completion_tokens=1024,
        num_steps=104,
    ),
    "prorl": RunShape(
        group_size=16,
        tasks_per_step=256,
        temperature=1.2,
        gate="dapo",
    ),
    "dapo": RunShape(
        group_size=16,
        tasks_per_step=512,
        temperature=1.0,
        over_draw=3.0,
        refill_rounds=9,
        gate="dapo",
        max_completion_tokens=20480,
    ),
}
"""Preset name -> what its run should be."""
