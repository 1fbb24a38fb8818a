"""Whether a run is what the trainer's preset was made for: told once, when the trainer joins it.

A preset's constants lie in three places: here, in the run, and in its rollout workers' settings.
Nothing is refused: a smaller group or batch is a choice, but should not be made unknowingly.
"""

from __future__ import annotations

import logging

from etude_proto.v1 import Run

from .config import TrainingConfig
from .presets import RUN_SHAPES, RunShape

logger = logging.getLogger(__name__)


def differences(run: Run, config: TrainingConfig) -> list[str]:
    """Where the run differs from the shape of the configuration's preset, one sentence each."""
    shape = RUN_SHAPES[config.preset]
    limits = run.limits
    found: list[tuple[str, object, object]] = [
        ("group_size", run.group_size, shape.group_size),
        (
            "groups of a training batch",
            config.batch.num_groups or limits.training_batch_groups,
            shape.tasks_per_step,
        ),
        ("gate", run.resolved.gate.name, shape.gate),
        ("reward.mode", run.reward.mode, shape.reward_mode),
        ("limits.refill_over_draw", limits.refill_over_draw, shape.over_draw),
        ("limits.refill_rounds", limits.refill_rounds, shape.refill_rounds),
        ("model.temperature", config.model.temperature, shape.temperature),
    ]
    return [
        f"{name} is {is_!s}, preset {config.preset} has {meant!s}"
        for name, is_, meant in found
        if meant is not None and is_ != meant
    ]


def worker_settings(config: TrainingConfig) -> dict[str, str]:
    """What the run's rollout workers must have set: the trainer cannot see it.

    The temperature is the trainer's own: log-probabilities are compared under it.
    """
    shape: RunShape = RUN_SHAPES[config.preset]
    wanted = {
        "ETUDE_TEMPERATURE": config.model.temperature,
        "ETUDE_MAX_PROMPT_TOKENS": shape.max_prompt_tokens,
        "ETUDE_MAX_NEW_TOKENS": shape.max_completion_tokens,
    }
    return {name: f"{value:g}" for name, value in wanted.items() if value is not None}


def tell_differences(run: Run, config: TrainingConfig) -> None:
    """One warning that names every difference, and one line of what workers should be set to."""
    logger.info("preset.workers", extra={"preset": config.preset, **worker_settings(config)})
    found = differences(run, config)
    if found:
        fields = {"preset": config.preset, "differences": "; ".join(found)}
        logger.warning("preset.differs", extra=fields)
