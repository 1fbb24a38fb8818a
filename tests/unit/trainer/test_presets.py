"""Presets and variants: every constant of algorithms.md, section 7, and what a file may change."""

from __future__ import annotations

import logging

import pytest

from etude_proto.v1 import Run
from etude_proto.v1.curriculum import ResolvedPart
from etude_trainer.agreement import differences, tell_differences, worker_settings
from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.errors import ConfigError
from etude_trainer.presets import PRESETS, RUN_SHAPES
from support.contract import example

COLUMNS = ["toolrl", "toolrl_released", "toolexpander", "prorl", "dapo"]

TABLE: dict[str, list[object]] = {
    "variant": ["bnpo", "bnpo", "dapo", "grpo", "dapo"],
    "group_size": [4, 4, 10, 16, 16],
    "temperature": [1.0, 1.0, 1.0, 1.2, 1.0],
    "tasks_per_step": [512, 512, 512, 256, 512],
    "num_updates": [4, 4, 4, 4, 16],
    "lr": [1e-6, 1e-6, 1e-6, 2e-6, 1e-6],
    "schedule": ["constant", "constant", "exponential", "constant", "constant"],
    "warmup_steps": [0, 0, 0, 0, 20],
    "betas": [(0.9, 0.999)] * 5,
    "weight_decay": [0.01] * 5,
    "clip": [(0.2, 0.2), (0.2, 0.2), (0.2, 0.28), (0.2, 0.4), (0.2, 0.28)],
    "kl_beta": [0.0, 0.0, 0.0, 1e-4, 0.0],
    "resets": [False, False, False, True, False],
    "reference_kl": [0.0, 0.001, 0.0, 0.0, 0.0],
    "entropy_coef": [0.001, 0.001, 0.0, 0.0, 0.0],
    "max_grad_norm": [1.0] * 5,
    "std_floor": [0.0, 0.0, 0.1, 0.0, 0.0],
    "inner_epochs": [1] * 5,
    "overlong": [0, 0, 0, 0, 20480],
    "overlong_cache": [4096] * 5,
    "gate": ["none", "none", "zero_variance", "dapo", "dapo"],
    "reward_mode": ["parity", "parity", None, None, None],
    "over_draw": [None, None, None, None, 3.0],
    "generation_batches": [None, None, None, None, 10],
    "prompt_tokens": [2048, 2048, 2048, None, None],
    "completion_tokens": [1024, 1024, 1024, None, 20480],
}


def constants(name: str) -> dict[str, object]:
    config, shape = parse_config("", preset=name), RUN_SHAPES[name]
    objective, optimizer = config.objective, config.optimizer
    assert config.model.temperature == shape.temperature
    return {
        "variant": objective.variant,
        "group_size": shape.group_size,
        "temperature": shape.temperature,
        "tasks_per_step": shape.tasks_per_step,
        "num_updates": shape.tasks_per_step // config.batch.mini_batch_groups,
        "lr": optimizer.lr,
        "schedule": optimizer.schedule,
        "warmup_steps": optimizer.warmup_steps,
        "betas": optimizer.betas,
        "weight_decay": optimizer.weight_decay,
        "clip": (objective.clip_low, objective.clip_high),
        "kl_beta": objective.kl_beta,
        "resets": config.resets.enabled,
        "reference_kl": config.shaping.reference_kl,
        "entropy_coef": objective.entropy_coef,
        "max_grad_norm": optimizer.max_grad_norm,
        "std_floor": config.advantage.std_floor,
        "inner_epochs": config.batch.inner_epochs,
        "overlong": config.shaping.overlong_tokens,
        "overlong_cache": config.shaping.overlong_cache,
        "gate": shape.gate,
        "reward_mode": shape.reward_mode,
        "over_draw": shape.over_draw,
        "generation_batches": None if shape.refill_rounds is None else shape.refill_rounds + 1,
        "prompt_tokens": shape.max_prompt_tokens,
        "completion_tokens": shape.max_completion_tokens,
    }


@pytest.mark.parametrize("name", COLUMNS)
def test_the_table(name: str) -> None:
    column = COLUMNS.index(name)
    assert constants(name) == {row: values[column] for row, values in TABLE.items()}
    assert list(PRESETS) == COLUMNS
    assert list(RUN_SHAPES) == COLUMNS


def chosen(text: str, preset: str | None = None) -> tuple[str | None, str, str, str]:
    config = parse_config(text, preset=preset)
    objective = config.objective
    return objective.variant, objective.ratio, config.advantage.kind, objective.aggregation


@pytest.mark.parametrize(
    ("variant", "ratio", "advantage", "aggregation"),
    [
        ("grpo", "token", "grpo", "sequence_mean"),
        ("dr_grpo", "token", "dr_grpo", "dr_grpo"),
        ("bnpo", "token", "grpo", "local_token_mean"),
        ("dapo", "token", "grpo", "token_mean"),
        ("gspo", "sequence", "grpo", "sequence_mean"),
    ],
)
@pytest.mark.parametrize("preset", COLUMNS)
def test_a_variant_is_a_choice_of_parts(
    preset: str, variant: str, ratio: str, advantage: str, aggregation: str
) -> None:
    found = chosen(f'[objective]\nvariant = "{variant}"\n', preset=preset)
    assert found == (variant, ratio, advantage, aggregation)


def test_what_a_file_says_itself_wins() -> None:
    assert chosen('[objective]\naggregation = "dr_grpo"\n', preset="dapo") == (
        None,
        "token",
        "grpo",
        "dr_grpo",
    )
    decoupled = '[objective]\nvariant = "grpo"\n[advantage]\nkind = "decoupled"\n'
    assert chosen(decoupled) == ("grpo", "token", "decoupled", "sequence_mean")
    config = parse_config('[objective]\nvariant = "gspo"\nclip_high = 5e-4\n')
    assert (config.objective.clip_low, config.objective.clip_high) == (3e-4, 5e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[objective]\nvariant = "dapo"\naggregation = "dr_grpo"', "variant dapo means"),
        ('[objective]\nvariant = "ppo"', "objective.variant"),
        ("[objective]\nvariant = 3", "objective.variant"),
        ('[objective]\nratio = "sequence"', "order of 3e-4"),
        ('[objective]\nvariant = "gspo"\nclip_high = 0.2', "order of 3e-4"),
        ("[objective]\ndual_clip = 1.1", "dual_clip must exceed"),
        ("[resets]\nenabled = true", "needs a reference"),
        ("[shaping]\nreference_kl = 0.1\nmask_truncated = true", "switch mask_truncated off"),
    ],
)
def test_choices_that_contradict_each_other(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(text)


def run_of(name: str, **changes: object) -> Run:
    """A run as the preset's paper had it."""
    shape = RUN_SHAPES[name]
    run = Run.model_validate_json(example("Run"))
    limits: dict[str, object] = {"training_batch_groups": shape.tasks_per_step}
    if shape.over_draw is not None:
        limits |= {"refill_over_draw": shape.over_draw, "refill_rounds": shape.refill_rounds}
    values: dict[str, object] = {
        "group_size": shape.group_size,
        "limits": run.limits.model_copy(update=limits),
        "resolved": run.resolved.model_copy(
            update={"gate": ResolvedPart(name=shape.gate or "none", knobs={})}
        ),
        "reward": run.reward.model_copy(update={"mode": shape.reward_mode or "robust"}),
    }
    return run.model_copy(update=values | changes)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_run_of_the_papers_shape_differs_in_nothing(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = parse_config("", preset=name)
    assert differences(run_of(name), config) == []
    with caplog.at_level(logging.INFO):
        tell_differences(run_of(name), config)
    assert [record.message for record in caplog.records] == ["preset.workers"]


def test_every_difference_is_told_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    config = parse_config("[model]\ntemperature = 1.0\n", preset="prorl")
    run = run_of("dapo", group_size=8)
    with caplog.at_level(logging.WARNING):
        tell_differences(run, config)
    (record,) = caplog.records
    assert record.message == "preset.differs"
    assert vars(record)["differences"] == (
        "group_size is 8, preset prorl has 16; "
        "groups of a training batch is 512, preset prorl has 256; "
        "model.temperature is 1.0, preset prorl has 1.2"
    )


def test_what_workers_should_be_set_to() -> None:
    def of(name: str) -> dict[str, str]:
        config: TrainingConfig = parse_config("", preset=name)
        return worker_settings(config)

    assert of("prorl") == {"ETUDE_TEMPERATURE": "1.2"}
    assert of("toolrl") == {
        "ETUDE_TEMPERATURE": "1",
        "ETUDE_MAX_PROMPT_TOKENS": "2048",
        "ETUDE_MAX_NEW_TOKENS": "1024",
    }
