"""`etude import` where no sampler is needed: what goes wrong is said in one line, exit code 2."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from etude_client.sources.upload import Summary
from etude_proto.rows.stream import RowFault
from etude_proto.v1 import Dataset
from etude_sampler.cli import app
from etude_sampler.datasets.report import fault_lines, report_document, summary_lines

GOOD_LINE = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "response": True})

DATASET = Dataset(
    id="dataset_1",
    name="mine",
    num_tasks=0,
    num_train=0,
    num_held_out=0,
    sources={},
    created_at="2026-01-01T00:00:00Z",
)


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address at which nothing listens: the port is taken, but not open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def good_file(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text(GOOD_LINE + "\n", encoding="utf-8")
    return path


def _failure(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """The only line that a failing import says."""
    result = CliRunner().invoke(app, ["import", *arguments], env=environment)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("etude: ")
    assert not result.stdout
    return line


def test_no_sampler(good_file: Path, dead_url: str) -> None:
    line = _failure("jsonl", str(good_file), "--url", dead_url)
    assert dead_url.removeprefix("http://") in line or "refused" in line.lower()
    _failure("rlla", str(good_file), environment={"ETUDE_SAMPLER_URL": dead_url})
    _failure("bfcl", "--limit", "3", "--url", dead_url)


def test_no_address(good_file: Path) -> None:
    _failure("jsonl", str(good_file), "--url", "nonsense")


def test_no_file(tmp_path: Path, dead_url: str) -> None:
    missing = tmp_path / "nowhere.jsonl"
    for command in ("jsonl", "rlla"):
        assert str(missing) in _failure(command, str(missing), "--url", dead_url)
    assert "BFCL_v4_simple_python.json" in _failure("bfcl", "--data", str(tmp_path))


def test_an_empty_file(tmp_path: Path, dead_url: str) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    assert "has no rows" in _failure("jsonl", str(path), "--url", dead_url)


def test_a_name_that_is_none(good_file: Path, dead_url: str) -> None:
    line = _failure("jsonl", str(good_file), "--url", dead_url, "--dataset", "?")
    assert "--dataset" in line


def test_no_folder_for_the_report(good_file: Path, tmp_path: Path, dead_url: str) -> None:
    report = tmp_path / "nowhere" / "report.json"
    line = _failure("jsonl", str(good_file), "--url", dead_url, "--report", str(report))
    assert "nowhere" in line


@pytest.mark.parametrize(
    "arguments",
    [["--held-out", "1.5"], ["--limit", "0"], ["--category", "memory"]],
)
def test_wrong_options(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["import", "bfcl", *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_the_report_names_every_bad_row() -> None:
    faults = [
        RowFault(line, "/calls", "bad", "a.json" if line == 1 else "") for line in range(1, 13)
    ]
    summary = Summary(
        num_rows=15,
        num_created=2,
        num_existing=1,
        num_train=2,
        num_held_out=1,
        sources={"mine": 3},
        faults=faults,
    )
    document = report_document(DATASET, summary)
    assert json.loads(json.dumps(document)) == document
    errors = document["errors"]
    assert isinstance(errors, list)
    assert len(errors) == document["num_rejected"] == 12
    assert errors[0] == {"line": 1, "pointer": "/calls", "detail": "bad", "file": "a.json"}
    assert errors[1] == {"line": 2, "pointer": "/calls", "detail": "bad"}
    assert list(summary_lines(DATASET, summary)) == [
        "dataset mine (dataset_1): 15 rows, 2 created, 1 already there, 12 refused",
        "split: 2 train, 1 held out",
        "  mine: 3",
    ]
    shown = list(fault_lines(faults))
    assert shown[0] == "refused: a.json line 1 at /calls: bad"
    assert len(shown) == 11
    assert "2 more" in shown[-1]
