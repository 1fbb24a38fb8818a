"""Small files of the trainer: the journal, the noted lease, the lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etude_proto.v1 import Lease
from etude_trainer.checkpoint import CheckpointState
from etude_trainer.errors import ConfigError, StateInUse
from etude_trainer.journal import Journal
from etude_trainer.service import exclusive
from etude_trainer.stages.fetch import LeaseNote
from etude_trainer.stages.tally import reportable


def state(version: int) -> CheckpointState:
    return CheckpointState(
        policy_version=version,
        lease_id=f"tb_{version}",
        fence=version,
        weights_uri=f"/w/{version}",
        metrics={"loss": 0.5},
    )


def test_a_step_is_written_once_even_if_it_is_told_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for version in (1, 1, 2, 2, 2):
        Journal(path).append(state(version), {"train": 1.23456789})
    steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [step["policy_version"] for step in steps] == [1, 2]
    assert steps[0]["seconds"] == {"train": 1.2346}
    assert steps[0]["metrics"] == {"loss": 0.5}


def test_a_line_that_was_cut_short_does_not_stop_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"policy_version": 1, "ba', encoding="utf-8")
    Journal(path).append(state(2), {})
    Journal(path).append(state(3), {})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["policy_version"] for line in lines] == [2, 3]


def test_leases_are_noted_until_they_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    note = LeaseNote(path)
    assert note.read() == []
    first = Lease(id="tb_1", run_id="run_1", fence=3, deadline_ms=5, ttl_s=60.0)
    second = first.model_copy(update={"id": "tb_2"})
    note.add(first)
    note.add(second)
    assert LeaseNote(path).read() == [first, second]
    note.remove("tb_1")
    assert LeaseNote(path).read() == [second]
    note.remove("tb_2")
    assert not path.exists()
    note.clear()
    assert note.read() == []
    path.write_text("{", encoding="utf-8")
    assert note.read() == []
    path.write_text(first.model_dump_json(), encoding="utf-8")  # as the first release noted one
    assert note.read() == [first]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "run"),
        pytest.raises(StateInUse, match="another trainer"),
        exclusive(tmp_path / "run"),
    ):
        pass
    with exclusive(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be used"), exclusive(tmp_path / "file" / "run"):
        pass


def test_an_ack_carries_finite_numbers_and_not_too_many() -> None:
    metrics = {"loss": float("nan"), "norm": float("inf"), **{f"m{n}": 1.0 for n in range(100)}}
    found = reportable(metrics)
    assert len(found) == 64
    assert "loss" not in found
