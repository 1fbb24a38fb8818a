"""The training configuration: what a step does, as a typed, frozen value read from TOML.

Read once by `cli.py`; a table a part, and every field explains itself below itself. The tables are
`learning.py` (what is computed) and `running.py` (how it runs), named bundles of values
`presets.py`. Where the services run is `settings.py`, what is practised is the run's own
curriculum: the three never mix.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import ValidationError, model_validator

from ..errors import ConfigError
from ..presets import DEFAULT_PRESET, PRESETS
from ..variants import apply_variant
from .learning import (
    AdvantageConfig,
    ObjectiveConfig,
    OptimizerConfig,
    ResetsConfig,
    ShapingConfig,
    Table,
)
from .running import (
    BatchConfig,
    LoraConfig,
    ModelConfig,
    OverlapConfig,
    ParallelConfig,
    ProfilerConfig,
    PublishConfig,
    ValidationConfig,
)

__all__ = [
    "AdvantageConfig",
    "BatchConfig",
    "LoraConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "OverlapConfig",
    "ParallelConfig",
    "ProfilerConfig",
    "PublishConfig",
    "ResetsConfig",
    "ShapingConfig",
    "TrainingConfig",
    "ValidationConfig",
    "load_config",
    "parse_config",
]


class TrainingConfig(Table):
    """A training configuration."""

    preset: str = DEFAULT_PRESET
    """Values that hold where this file says nothing: `toolrl`, `toolrl_released`, `toolexpander`,
    `prorl` or `dapo`."""
    resume: Literal["exact", "continue"] = "exact"
    """A trainer that starts behind its run (its newest model checkpoints were lost): `exact` takes
    the run back to the newest step that is still here, so that model, optimizer and curriculum
    stand at the same one; `continue` goes on from the announced weights with an empty optimizer."""
    advantage: AdvantageConfig = AdvantageConfig()
    """Rewards to advantages."""
    shaping: ShapingConfig = ShapingConfig()
    """Lengths and difficulty."""
    objective: ObjectiveConfig = ObjectiveConfig()
    """The loss."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW and the learning rate."""
    resets: ResetsConfig = ResetsConfig()
    """Reference resets (ProRL)."""
    batch: BatchConfig = BatchConfig()
    """Sizes."""
    model: ModelConfig = ModelConfig()
    """Precision and memory."""
    lora: LoraConfig = LoraConfig()
    """An adapter instead of the model."""
    publish: PublishConfig = PublishConfig()
    """Checkpoints and weights on disk."""
    validation: ValidationConfig = ValidationConfig()
    """Evaluations of published versions."""
    overlap: OverlapConfig = OverlapConfig()
    """Steps that overlap."""
    profiler: ProfilerConfig = ProfilerConfig()
    """Traces of steps."""
    parallel: ParallelConfig = ParallelConfig()
    """Many ranks."""

    @property
    def needs_reference(self) -> bool:
        """Whether a reference model takes part."""
        return self.objective.kl_beta > 0.0 or self.shaping.reference_kl > 0.0

    @model_validator(mode="after")
    def _layers_compute_as_they_travel(self) -> Self:
        if self.parallel.gather == "bfloat16" and self.model.autocast != "bfloat16":
            raise ValueError('parallel.gather = "bfloat16" needs model.autocast = "bfloat16"')
        return self

    @model_validator(mode="after")
    def _lora_computes(self) -> Self:
        if self.lora.rank and self.lora.base == "bfloat16" and self.model.autocast == "none":
            raise ValueError('lora.base "bfloat16" needs model.autocast "bfloat16"')
        return self

    @model_validator(mode="after")
    def _resets_have_a_reference(self) -> Self:
        if self.resets.enabled and not self.needs_reference:
            raise ValueError("resets.enabled needs a reference to reset: objective.kl_beta is 0")
        return self


def parse_config(text: str, *, preset: str | None = None, origin: str = "config") -> TrainingConfig:
    """A configuration from TOML text over a preset; `preset` wins over the text's own.

    Raises:
        ConfigError: not TOML, an unknown preset or field, a wrong type or value.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    name = preset or given.get("preset", DEFAULT_PRESET)
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"{origin}: preset: {name!r} is not one of {', '.join(PRESETS)}")
    values: dict[str, object] = {**given, "preset": name}
    for table, defaults in apply_variant(PRESETS[name], given).items():
        own = given.get(table, {})
        values[table] = {**defaults, **own} if isinstance(own, dict) else own
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'config'}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ConfigError(f"{origin}: " + "; ".join(faults)) from error


def load_config(path: Path | None, *, preset: str | None = None) -> TrainingConfig:
    """The configuration of a file, or a preset's alone.

    Raises:
        ConfigError: the file cannot be read, or see `parse_config`.
    """
    if path is None:
        return parse_config("", preset=preset)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_config(text, preset=preset, origin=str(path))
