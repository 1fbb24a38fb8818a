"""The quantisation gate: the examples of algorithms.md 9.4, its bounds, what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from etude_rollout.cli import main
from etude_rollout.evaluation.answers import rewrite
from etude_rollout.evaluation.gate import DOMAIN_BOUND, OVERALL_BOUND, Pairs, compare, judge
from etude_rollout.evaluation.items import EvaluationError
from support.evaluations import answer, answers_file, header


@pytest.mark.parametrize(
    ("lost", "gained", "drop", "interval", "verdict"),
    [
        (20, 8, 2.01, (0.3, 3.9), "BLOCK"),
        (12, 5, 1.17, (-0.2, 2.5), "WARN"),
        (5, 3, 0.34, (-0.6, 1.3), "PASS"),
        (0, 12, -2.01, (-3.2, -1.0), "PASS"),
        (6, 0, 1.005, (0.3, 1.8), "BLOCK"),
        (0, 0, 0.0, (0.0, 0.0), "PASS"),
    ],
)
def test_examples_of_597_items(
    lost: int, gained: int, drop: float, interval: tuple[float, float], verdict: str
) -> None:
    score = judge(Pairs("overall", 597, lost, gained), bound=OVERALL_BOUND)
    assert score.drop == pytest.approx(drop, abs=0.005)
    assert (score.low, score.high) == pytest.approx(interval, abs=0.25)  # one item: .17
    assert score.verdict == verdict


def test_a_drop_at_the_bound_passes() -> None:
    assert judge(Pairs("overall", 100, 1, 0), bound=OVERALL_BOUND).verdict == "PASS"
    assert judge(Pairs("overall", 500, 10, 0), bound=DOMAIN_BOUND).verdict == "PASS"
    assert judge(Pairs("overall", 500, 11, 0), bound=DOMAIN_BOUND).verdict == "BLOCK"


@settings(max_examples=30)
@given(st.integers(1, 400), st.data())
def test_verdict_follows_drop_and_interval(num_items: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, num_items))
    gained = data.draw(st.integers(0, num_items - lost))
    score = judge(Pairs("d", num_items, lost, gained), bound=OVERALL_BOUND)
    assert score.low <= score.drop + 1e-9
    assert score.high >= score.drop - 1e-9
    assert score == judge(Pairs("d", num_items, lost, gained), bound=OVERALL_BOUND)
    mirrored = judge(Pairs("d", num_items, gained, lost), bound=OVERALL_BOUND)
    assert mirrored.drop == -score.drop
    expected = "PASS" if score.drop <= 1 else ("BLOCK" if score.low > 0 else "WARN")
    assert score.verdict == expected


def files(folder: Path, lost: int, gained: int) -> tuple[Path, Path]:
    """Two files over 597 items of which the quantised model loses and gains some."""
    full = [number < 300 for number in range(597)]
    quantised = [lost <= number < 300 + gained for number in range(597)]
    return (
        answers_file(folder / "full.jsonl", full, precision="fp32"),
        answers_file(folder / "quantised.jsonl", quantised, precision="int8"),
    )


@pytest.mark.parametrize(
    ("lost", "gained", "verdict", "code"),
    [(20, 8, "BLOCK", 1), (5, 3, "PASS", 0), (0, 20, "PASS", 0)],
)
def test_command_says_and_exits(
    tmp_path: Path, lost: int, gained: int, verdict: str, code: int
) -> None:
    full, quantised = files(tmp_path, lost, gained)
    told = CliRunner().invoke(main, ["eval", "compare", str(full), str(quantised)])
    assert told.exit_code == code
    assert told.stdout.splitlines()[-1] == verdict
    as_json = CliRunner().invoke(main, ["eval", "compare", str(full), str(quantised), "--json"])
    assert as_json.exit_code == code
    document = json.loads(as_json.stdout)
    assert document["verdict"] == verdict
    assert (document["overall"]["num_lost"], document["overall"]["num_gained"]) == (lost, gained)
    assert document["full"] == "vllm-0.32/fp32 (fp32)"
    assert document["warnings"] == []


def test_warn_exits_with_zero(tmp_path: Path) -> None:
    full, quantised = files(tmp_path, 12, 5)
    told = CliRunner().invoke(main, ["eval", "compare", str(full), str(quantised)])
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (0, "WARN")


def test_one_bad_domain_blocks(tmp_path: Path) -> None:
    def written(name: str, lost: int) -> Path:
        path = tmp_path / name
        given = [answer(f"a{n}", is_right=True) for n in range(2000)]
        given += [answer(f"b{n}", is_right=n >= lost, domain="level-2") for n in range(100)]
        rewrite(path, header(precision=name), given)
        return path

    found = compare(written("fp32", 0), written("int4", 8))
    assert found.overall.verdict == "PASS"
    assert [domain.verdict for domain in found.domains] == ["PASS", "BLOCK"]
    assert found.verdict == "BLOCK"


def test_files_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    full = answers_file(tmp_path / "full.jsonl", [True, False], precision="fp32")
    fewer = answers_file(tmp_path / "fewer.jsonl", [True], precision="int8")
    with pytest.raises(EvaluationError, match="1 are answered only in the first file, 0 only"):
        compare(full, fewer)
    with pytest.raises(EvaluationError, match="0 are answered only in the first file, 1 only"):
        compare(fewer, full)
    seeded = answers_file(tmp_path / "seeded.jsonl", [True, False], precision="int8", seed=1)
    with pytest.raises(EvaluationError, match="seed is 0 and 1"):
        compare(full, seeded)
    empty = answers_file(tmp_path / "empty.jsonl", [], precision="int8")
    with pytest.raises(EvaluationError, match="hold no answers"):
        compare(empty, empty)
    told = CliRunner().invoke(main, ["eval", "compare", str(full), str(tmp_path / "none")])
    assert told.exit_code == 2
    assert told.stderr.count("\n") == 1
    assert "cannot read" in told.stderr


def test_same_precision_is_said(tmp_path: Path) -> None:
    one = answers_file(tmp_path / "one.jsonl", [True], precision="bf16")
    two = answers_file(tmp_path / "two.jsonl", [True], precision="bf16")
    assert compare(one, two).warnings == ["both files say precision bf16"]
