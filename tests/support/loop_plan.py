"""What the end-to-end tests run: the tiny policy, warmed up on the spot, on tasks of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy, its tasks and the services' settings."""

    policy: str
    model: Path
    make_model: Sequence[str]
    import_tasks: Sequence[str]
    dataset: str
    group_size: int
    batch_groups: int
    rollout: Mapping[str, str]
    trainer_toml: str


_TOML = """
[optimizer]
lr = {lr}
weight_decay = 0.0
warmup_steps = 0

[objective]
clip_high = 0.28
entropy_coef = 0.0

[advantage]
std_floor = {std_floor}

[batch]
mini_batch_groups = 0
inner_epochs = {epochs}
micro_batch_tokens = {micro}
wait_s = 2.0

[model]
temperature = {temperature}

[publish]
keep_checkpoints = 2
"""


def tiny(home: Path) -> Plan:
    """The tiny policy: its mastery rises within about two minutes on two cores."""
    model = home / "models" / "tiny"
    tasks = home / "models" / "tiny-tasks.jsonl"
    make = [str(BIN / "etude-rollout"), "models", "make-tiny", "--out", str(model)]
    return Plan(
        policy="tiny",
        model=model,
        make_model=[*make, "--tasks", str(tasks)],
        import_tasks=["jsonl", str(tasks), "--dataset", "tiny"],
        dataset="tiny",
        group_size=16,
        batch_groups=16,
        rollout={
            "ETUDE_EXPLAIN_FORMAT": "false",
            "ETUDE_TASKS_PER_BATCH": "16",
            "ETUDE_BATCHES_IN_FLIGHT": "2",
            "ETUDE_MAX_NEW_TOKENS": "80",
            "ETUDE_ENGINE_MAX_ROWS": "256",
        },
        trainer_toml=_TOML.format(lr="1e-3", std_floor=0.3, epochs=1, micro=65536, temperature=1.0),
    )
