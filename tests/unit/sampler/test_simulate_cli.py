"""`etude simulate`: tables, JSON, the plot, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from etude_sampler import simulate_plot
from etude_sampler.cli import app

SMALL = ("--budget", "5120", "--seeds", "2", "--workers", "1")
ARMS = ["uniform", "learnability", "oracle_success", "oracle_gradient"]


def _simulate(*options: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *options])


def test_json_has_every_metric_with_its_interval() -> None:
    done = _simulate(*SMALL, "--strategies", "learnability", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["budget"] == 5120
    assert found["seeds"] == [0, 1]
    assert "nothing about language models" in found["note"]
    assert [one["strategy"] for one in found["results"]] == ARMS
    assert [one["kind"] for one in found["results"]] == ["preset"] * 2 + ["oracle"] * 2
    for one in found["results"]:
        area = one["area_under_curve"]
        low, high = area["ci95"]
        assert low < area["mean"] < high
        assert 0 < one["informative_share"]["mean"] <= 1
        assert sum(area["values"]) / 2 == pytest.approx(area["mean"])
        never = {"mean": None, "ci95": None, "num_seeds": 0, "values": [None, None]}
        assert one["rollouts_to_target"] == never
    assert found["results"][0]["difference_to_uniform"]["area_under_curve"]["mean"] == 0
    assert found["results"][0]["gap_closed"]["area_under_curve"]["mean"] == 0
    assert "of 8 runs" in done.stderr


def test_processes_change_nothing() -> None:
    alone = _simulate(*SMALL, "--strategies", "uniform", "--json")
    spread = _simulate(*SMALL[:-1], "2", "--strategies", "uniform", "--json")
    assert spread.exit_code == 0, spread.output
    assert json.loads(spread.stdout) == json.loads(alone.stdout)


def test_tables_and_plot(tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    done = _simulate(*SMALL, "--strategies", "learnability", "--plot", str(picture))
    assert done.exit_code == 0, done.output
    for name in ARMS:
        assert name in done.stdout
    assert "not reached (0 of 2)" in done.stdout
    assert "nothing about language models" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000


def test_calibration(tmp_path: Path) -> None:
    """Two processes say what one says; the truth scores best, the flat prior .25 of the unseen."""
    picture = tmp_path / "reliability.png"
    alone = _simulate("--calibration", *SMALL, "--json", "--plot", str(picture))
    assert alone.exit_code == 0, alone.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(alone.stdout)
    scores = {one["groups"]: one["brier"] for one in found["results"]}
    assert list(scores) == ["unseen, control arm", "seen, control arm", "unseen, all", "seen, all"]
    assert scores["unseen, all"]["flat prior"]["mean"] == pytest.approx(0.25)
    assert scores["unseen, all"]["truth"]["mean"] < scores["unseen, all"]["etude"]["mean"] < 0.2
    low, high = scores["unseen, all"]["etude"]["ci95"]
    assert low < scores["unseen, all"]["etude"]["mean"] < high
    num = {one["groups"]: one["num_groups"] for one in found["results"]}
    unseen = found["reliability"]["unseen"]
    assert sum(one["num_groups"] for one in unseen) == num["unseen, control arm"]
    assert num["unseen, all"] + num["seen, all"] == 2 * 10 * 64
    shown = _simulate("--calibration", *SMALL[:-1], "2")
    assert shown.exit_code == 0, shown.output
    assert f"{scores['unseen, all']['etude']['mean']:.3f} ±" in shown.stdout
    assert "forecast, seen, control arm" in shown.stdout


def test_one_seed_is_shown_without_intervals() -> None:
    done = _simulate("--budget", "1024", "--seeds", "1", "--workers", "1", "--strategies", "dscl")
    assert done.exit_code == 0, done.output
    assert "±" not in done.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--strategies", "dscl,magic"), "no strategy is called 'magic'; there are "),
        (("--strategies", " , "), "names none"),
        (("--calibration", "--strategies", "etude"), "of preset etude alone"),
        (("--budget", "1000"), "multiple of 512"),
        (("--plot", "curves.pdf"), "must end in .png"),
        (("--plot", "no/such/folder/x.png"), "no such folder"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(options: tuple[str, ...], says: str) -> None:
    done = _simulate(*options)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_without_matplotlib_the_plot_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulate_plot, "find_spec", lambda name: None)
    done = _simulate("--plot", "x.png")
    assert done.exit_code == 2
    assert "pip install 'etude-sampler[demo]'" in done.stderr
