"""The profiler: the steps that were asked for, by name, in a file that a viewer opens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from etude_trainer.batch import decode_batch
from etude_trainer.config import ProfilerConfig, parse_config
from etude_trainer.parallel.team import Team
from etude_trainer.service import build_learner
from support.trajectories import sample_batch


def quiet(_done: int, _total: int) -> None:
    """No progress to report."""


def test_the_second_of_three_steps_is_traced(tiny_dir: Path, tmp_path: Path) -> None:
    config = parse_config("[profiler]\nfirst_step = 2\nlast_step = 2\n")
    team = Team(build_learner(tiny_dir, config, device="cpu"))
    team.profile(tmp_path / "profiles")
    traces = []
    for step in range(3):
        frame = sample_batch(team.learner.policy.module, seed=step, version=step, num_groups=1)
        batch = decode_batch(frame.manifest, frame.bodies, vocab_size=512)
        team.learn(frame.manifest, frame.bodies, batch.groups, quiet)
        traces.append(sorted((tmp_path / "profiles").glob("rank0.*.pt.trace.json")))
    assert [len(found) for found in traces] == [0, 1, 1]
    events = json.loads(traces[1][0].read_text(encoding="utf-8"))["traceEvents"]
    names = {event.get("name") for event in events}
    assert "aten::mm" in names or "aten::addmm" in names
    assert any(str(name).startswith("Optimizer.step") for name in names)


def test_the_last_step_must_not_come_first() -> None:
    with pytest.raises(ValidationError, match="last_step"):
        ProfilerConfig(first_step=3, last_step=2)
