"""Evaluations: read as the rollout service writes them, each shown once, of this future only."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from etude_client import EtudeClient
from etude_rollout.evaluation.validation import ValidationLine, append
from etude_trainer.checkpoint import CheckpointStore
from etude_trainer.config import parse_config
from etude_trainer.stages.reset import validation_mean
from etude_trainer.stages.settle import Site
from etude_trainer.status import StatusBoard
from etude_trainer.stop import StopSignal
from etude_trainer.validation import Evaluation, Validation
from etude_trainer.weights.disk import DiskChannel


def line(version: int | None, mean: float, **changes: object) -> ValidationLine:
    values: dict[str, object] = {
        "run": "mine",
        "policy_version": version,
        "benchmark": "api-bank",
        "data": "597 items",
        "measure": "overall",
        "mean": mean,
        "num_answered": 40,
        "is_complete": True,
        "seed": 0,
        "precision": "float32",
    }
    return ValidationLine.model_validate({**values, **changes})


def validation_in(folder: Path, *, every_steps: int = 0) -> Validation:
    files = [folder / "validation-mine.jsonl", folder / "validation-run_1.jsonl"]
    return Validation(files, folder / "note.json", every_steps=every_steps)


def shown(found: list[Evaluation]) -> list[tuple[int | None, float]]:
    return [(one.policy_version, one.mean) for one in found]


def test_what_the_rollout_service_writes_is_shown_once_also_by_the_next_trainer(
    tmp_path: Path,
) -> None:
    file = tmp_path / "validation-mine.jsonl"
    validation = validation_in(tmp_path)
    validation.stand(0)
    assert (validation.new(4), validation.newest) == ([], None)
    append(file, line(5, 0.25))
    append(file, line(2, 0.125))
    append(file, line(None, 0.5))
    append(file, line(3, 0.5, is_complete=False))
    assert shown(validation.new(4)) == [(2, 0.125)]
    assert shown(validation.new(5)) == [(5, 0.25)]
    assert validation.new(5) == []
    newest = validation.newest
    assert newest is not None
    assert (newest.policy_version, newest.mean) == (5, 0.25)
    restarted = validation_in(tmp_path)
    restarted.stand(5)
    assert restarted.new(5) == []
    assert restarted.newest == newest
    append(file, line(3, 0.75))  # the evaluation was gone on with
    assert shown(restarted.new(5)) == [(3, 0.75)]
    assert restarted.newest == newest


def test_a_run_that_was_taken_back_shows_nothing_of_the_future_it_left(tmp_path: Path) -> None:
    file = tmp_path / "validation-run_1.jsonl"
    validation = validation_in(tmp_path)
    validation.stand(0)
    for version in (2, 4, 6):
        append(file, line(version, version / 10))
    assert len(validation.new(6)) == 3
    validation.stand(4)
    newest = validation.newest
    assert newest is not None
    assert newest.policy_version == 4
    assert validation.new(6) == [], "version 6 was another policy's"
    append(file, line(6, 0.1))
    assert shown(validation.new(6)) == [(6, 0.1)]


def test_resets_may_go_by_evaluations(tmp_path: Path) -> None:
    validation = validation_in(tmp_path)
    site = Site(
        client=EtudeClient("http://127.0.0.1:1"),  # nobody there: it must not be asked
        run_id="run_1",
        store=CheckpointStore(tmp_path),
        channel=DiskChannel(tmp_path, model_dir=tmp_path, dtype=torch.float32, keep_versions=2),
        board=StatusBoard(),
        stop=StopSignal(),
        model_dir=tmp_path,
        weights_root=tmp_path,
        validation=validation,
    )
    settings = parse_config('[resets]\nmeasure = "evaluations"\n').resets
    assert validation_mean(site, settings) is None
    append(tmp_path / "validation-mine.jsonl", line(1, 0.75))
    validation.new(1)
    assert validation_mean(site, settings) == 0.75


def test_what_must_not_be_compared_has_a_curve_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "validation-mine.jsonl"
    validation = validation_in(tmp_path)
    validation.stand(9)
    append(file, line(1, 0.1))
    append(file, line(2, 0.9, seed=7))
    append(file, line(3, 0.9, benchmark="bfcl", measure="domains a, b"))
    append(file, line(4, 0.2))
    found = validation.new(9)
    assert [validation.tag(one) for one in found] == [
        "validation/api-bank_overall",
        "validation/api-bank_overall_2",
        "validation/bfcl_domains_a_b",
        "validation/api-bank_overall",
    ]
    newest = validation.newest
    assert newest is not None
    assert newest.mean == 0.2, "of what was seen first"


def test_a_damaged_file_is_named_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "validation-mine.jsonl"
    validation = validation_in(tmp_path)
    validation.stand(0)
    append(file, line(1, 0.5))
    with file.open("a") as out:
        out.write("half a li")
        out.write("\n" + json.dumps({**line(2, 0.5).model_dump(), "mean": 7}) + "\n")
    with caplog.at_level(logging.WARNING):
        assert shown(validation.new(3)) == [(1, 0.5)]
        validation.new(3)
    told = [vars(one)["error"] for one in caplog.records if one.message == "validation.unreadable"]
    assert told == [f"{file} line {n} is no line of etude-validation/1" for n in (2, 3)]
    (tmp_path / "note.json").write_text("{")
    validation.stand(3)
    assert shown(validation.new(3)) == [(1, 0.5)], "rather twice than never"


def test_weights_wait_for_their_evaluation_two_versions_at_most(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    for version in range(1, 13):
        (weights / f"v{version:06d}-lease{version}").mkdir(parents=True)
    (weights / "notes").mkdir()
    validation = validation_in(tmp_path, every_steps=3)
    validation.stand(12)
    names = {Path(one).name for one in validation.awaited(weights)}
    assert names == {"v000009-lease9", "v000012-lease12"}
    append(tmp_path / "validation-mine.jsonl", line(12, 0.5))
    validation.new(12)
    names = {Path(one).name for one in validation.awaited(weights)}
    assert names == {"v000006-lease6", "v000009-lease9"}
    assert validation_in(tmp_path).awaited(weights) == set()
