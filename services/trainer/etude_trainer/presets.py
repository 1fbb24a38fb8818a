"""Named training configurations: the constants of algorithms.md, section 7, column by column.

Read by `config.py`, where every field is explained; a preset gives only what differs from the
field's own default or what a paper states.
"""

from __future__ import annotations

from typing import Final

DEFAULT_PRESET: Final = "toolrl"

PRESETS: Final[dict[str, dict[str, dict[str, object]]]] = {
    # ToolRL (2504.13958), as in its released scripts, without their KL term in the reward.
    # Token mean there is per micro-batch, here over the mini-batch: so that it does not depend on
    # how sequences are packed (our choice).
    "toolrl": {
        "advantage": {"kind": "grpo"},
        "objective": {
            "clip_low": 0.2,
            "clip_high": 0.2,
            "kl_beta": 0.0,
            "entropy_coef": 0.001,
            "aggregation": "token_mean",
            "max_completion_tokens": 1024,
        },
        "optimizer": {
            "lr": 1e-6,
            "schedule": "constant",
            "betas": (0.9, 0.999),
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
        },
        "batch": {"mini_batch_groups": 128, "inner_epochs": 1},
    },
    # ToolExpander (2510.07737): no KL, adjusted clip, exponential decay are the paper's; the clip
    # values, the decay's constants and the floor (0/1 reward) are our choice (sections 4.3, 4.4).
    "toolexpander": {
        "advantage": {"kind": "grpo", "std_floor": 0.1},
        "objective": {
            "clip_low": 0.2,
            "clip_high": 0.28,
            "kl_beta": 0.0,
            "entropy_coef": 0.0,
            "aggregation": "token_mean",
            "max_completion_tokens": 1024,
        },
        "optimizer": {
            "lr": 1e-6,
            "schedule": "exponential",
            "lr_factor": 0.85,
            "lr_period_steps": 7,
            "lr_floor": 0.1,
            "betas": (0.9, 0.999),
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
        },
        "batch": {"mini_batch_groups": 128, "inner_epochs": 1},
    },
}
"""Preset name -> table -> values."""
