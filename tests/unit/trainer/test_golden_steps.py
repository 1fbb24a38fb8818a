"""Golden numerics: twenty steps on fixed batches give the numbers on file.

A refactoring of loss, advantage or layout must leave them alone; a change of the mathematics
rewrites `data/golden_steps.json` (run this file as a script) and says so in its commit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from etude_trainer.batch import Group, decode_batch
from etude_trainer.config import parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from support.tiny_model import save_tiny_model
from support.trajectories import Rollout, frame_of, pack, share_below

GOLDEN = Path(__file__).parent / "data" / "golden_steps.json"
NAMES = (
    "loss",
    "grad_norm",
    "kl_rollout",
    "kl_reference",
    "importance_mean",
    "ratio_mean",
    "entropy",
    "advantage_abs_mean",
    "lr",
)
CONFIG = """
preset = "toolexpander"
[objective]
kl_beta = 0.01
entropy_coef = 0.001
[optimizer]
lr = 1e-3
[batch]
mini_batch_groups = 2
inner_epochs = 2
micro_batch_tokens = 128
"""


def fixed_batch(step: int) -> tuple[Group, ...]:
    """Four groups of four made-up sequences, each token reported at ln(1/512)."""
    rng = np.random.default_rng(step)
    bodies = []
    for number in range(4):
        prompt = rng.integers(2, 512, size=int(rng.integers(3, 12))).tolist()
        completions = [rng.integers(2, 512, size=int(n)).tolist() for n in rng.integers(1, 9, 4)]
        rollouts = [Rollout(prompt, c, [float(-np.log(512.0))] * len(c)) for c in completions]
        bodies.append(pack(rollouts, task_id=f"task_{number}", reward=share_below(256)))
    return decode_batch(frame_of(bodies).manifest, bodies, vocab_size=512).groups


def twenty_steps(folder: Path) -> list[dict[str, float]]:
    """The watched metrics of every step."""
    learner = build_learner(save_tiny_model(folder), parse_config(CONFIG), device="cpu")
    found = []
    for step in range(20):
        metrics = learn(learner, fixed_batch(step), step=step, progress=lambda _done, _total: None)
        found.append({name: metrics[name] for name in NAMES})
    return found


def test_twenty_steps_as_on_file(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for step, (found, want) in enumerate(zip(twenty_steps(tmp_path), golden, strict=True)):
        assert found == pytest.approx(want, rel=2e-3, abs=2e-5), f"step {step}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(twenty_steps(Path(folder)), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {GOLDEN}\n")
