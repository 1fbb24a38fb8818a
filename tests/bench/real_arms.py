"""Arms of the comparison on a real learner: presets, and DSCL with its weights in the advantage.

All train with the same settings but for the advantage of DSCL's variants, and where an arm has a
preset of the trainer. Used by `real_cell.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from real_coaching import ASK
from real_oracle import Wanted

from etude_trainer.config import TrainingConfig, parse_config

_TOML = """
{preset}
[optimizer]
lr = {lr}
weight_decay = 0.0
[objective]
clip_high = 0.28
entropy_coef = 0.0
[advantage]
{advantage}
[batch]
mini_batch_groups = 0
micro_batch_tokens = 65536
"""


ORACLES: Mapping[str, Wanted] = {"oracle_success": "success", "oracle_signal": "signal"}
_COMPONENT_GATE = {"name": "zero_variance", "knobs": {"on": "components"}}


@dataclass(frozen=True, slots=True)
class Arm:
    """What an arm does besides following the preset of its name."""

    curriculum: dict[str, object]
    credit: dict[str, object] = field(default_factory=dict)
    advantage: str = "std_floor = 0.3"
    trainer: str | None = None
    """Preset of the trainer; None: its usual values."""
    oracle: Wanted | None = None
    """Not None: it chooses by what it measures, whatever the sampler draws."""


def arm_of(name: str) -> Arm:
    """A preset, or `dscl` with its weights in the advantage: per component, or per token span.

    `etude_narrow` is `etude` with the spreads that it had first, those of the simulated world.

    `toolexpander` is the preset of sampler and trainer (exponential decay, clip, aggregation), with
    a shorter request for examples;
    `toolexpander_no_examples` the same without examples of its own, `toolexpander_rounds` hard
    sampling alone, trained as all the other arms.
    """
    if name == "toolexpander":
        asked = {"name": "self_example", "knobs": {"ask": ASK}}
        return Arm({"preset": name, "scaffold": asked}, trainer=name)
    if name in ORACLES:
        return Arm({"preset": "uniform"}, oracle=ORACLES[name])
    if name == "etude_narrow":
        knobs = {"shared_spread": 0.8, "own_spread": 0.8}
        return Arm({"preset": "etude", "weigher": {"name": "etude", "knobs": knobs}})
    if name in ("toolexpander_rounds", "toolexpander_no_examples"):
        parts = {"allocator": {"name": "joint"}, "hard": {"name": "multi_round"}}
        trainer = "toolexpander" if name == "toolexpander_no_examples" else None
        return Arm({"preset": "uniform", "control_share": 0.1, **parts}, trainer=trainer)
    if name not in ("dscl_decoupled", "dscl_spans"):
        return Arm({"preset": name})
    spans = name == "dscl_spans"
    credit = 'kind = "decoupled"\ncredit = "spans"' if spans else 'kind = "decoupled"'
    return Arm(
        {"preset": "dscl", "gate": _COMPONENT_GATE},
        {"component_weights_in": "advantage", "spans": spans},
        credit,
    )


def training_config(lr: float, arm: Arm) -> TrainingConfig:
    """GRPO as the trainer runs it."""
    preset = "" if arm.trainer is None else f'preset = "{arm.trainer}"'
    return parse_config(_TOML.format(preset=preset, lr=lr, advantage=arm.advantage))
