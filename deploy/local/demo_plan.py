"""What the demo runs: model, tasks, sizes. Two policies; everything else is the services' own.

`small` is SmolLM2-135M on BFCL's simple Python tasks; `tiny` is a transformer of a hundred thousand
parameters, warmed up on the spot, on small tool-call tasks of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
PREFILL = '<think> One tool fits the request. </think>\n<tool_call>\n{"name": "'


@dataclass(frozen=True, slots=True)
class Plan:
    """One policy's demo."""

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


def small(home: Path) -> Plan:
    """SmolLM2-135M-Instruct on BFCL simple_python."""
    model = home / "models" / "smollm2-135m-instruct"
    return Plan(
        policy="small",
        model=model,
        make_model=[str(BIN / "etude-rollout"), "models", "fetch-smollm2", "--out", str(model)],
        import_tasks=["bfcl", "--category", "simple_python", "--dataset", "bfcl-simple"],
        dataset="bfcl-simple",
        group_size=6,
        batch_groups=4,
        rollout={
            "ETUDE_TOOLS_IN": "user",
            "ETUDE_EXPLAIN_FORMAT": "false",
            "ETUDE_NUM_SHOTS": "2",
            "ETUDE_ASSISTANT_PREFILL": PREFILL,
            "ETUDE_TEMPERATURE": "0.8",
            "ETUDE_TASKS_PER_BATCH": "4",
            "ETUDE_BATCHES_IN_FLIGHT": "1",
            "ETUDE_MAX_NEW_TOKENS": "64",
            "ETUDE_ENGINE_MAX_ROWS": "24",
        },
        trainer_toml=_TOML.format(lr="2e-5", std_floor=0.3, epochs=1, micro=4096, temperature=0.8),
    )


PLANS = {"tiny": tiny, "small": small}
