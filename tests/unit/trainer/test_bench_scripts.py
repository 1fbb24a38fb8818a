"""The step benchmarks themselves: figures that add up, and failures that are named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from etude_trainer.config import parse_config
from etude_trainer.stages.credit import batch_credit
from support.tree import ROOT

sys.path.append(str(ROOT / "tests" / "bench"))

from gpu import Report, options, table
from gpu_models import TINY_BATCH, Model
from gpu_step import VARIANTS, Variant, measure_steps
from step_work import Shape, make_work


@pytest.fixture
def model(tiny_dir: Path) -> Model:
    return Model("tiny", tiny_dir, TINY_BATCH, 512)


@pytest.mark.parametrize("variant", VARIANTS[1:3], ids=["rows", "lines"])
def test_figures_of_a_step_add_up(model: Model, variant: Variant) -> None:
    (row,) = measure_steps(model, variant, device="cpu", steps=2, peak=1e12)
    work = make_work(TINY_BATCH, vocab_size=512)
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
    assert numbers["trained_parameters"] == 106_816
    assert numbers["tokens_per_s"] * numbers["seconds"] == pytest.approx(work.num_tokens)
    assert 0 < numbers["tokens_computed_per_s"] < numbers["tokens_per_s"]
    assert numbers["mfu"] == pytest.approx(numbers["tflops"])
    assert numbers["mfu"] > 0
    assert numbers["grad_norm"] > 0


def test_what_cannot_run_is_named_and_the_others_go_on(model: Model) -> None:
    kept: list[int] = []
    report = Report(keep=lambda report: kept.append(len(report.rows) + len(report.skipped)))

    def fail() -> list[dict[str, object]]:
        raise OSError("no engine\nhere")

    report.attempt("publish", "publish tiny", fail)
    report.attempt("publish", "publish again", lambda: [{"channel": "disk", "load_s": 0.25}])
    assert report.skipped == {"publish tiny": "OSError: no engine"}
    assert kept == [1, 2], "written after every piece"
    report.until_s = 0.0
    report.attempt("publish", "publish late", fail)
    assert report.skipped["publish late"] == "no time left (--within)"
    assert table(report.rows["publish"]).splitlines()[-1] == "| disk | 0.25 |"


def test_a_part_that_is_not_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        options(["--parts", "step,speed"])
    assert "speed: not one of step, publish, curve" in capsys.readouterr().err


def test_both_sides_get_the_same_advantages() -> None:
    work = make_work(
        Shape(num_groups=3, group_size=5, prompt=(2, 6), completion=(1, 4)), vocab_size=512
    )
    config = parse_config("")
    ours = batch_credit(work.groups(), config.advantage, config.shaping)
    want = torch.tensor(work.advantages, dtype=torch.float64)
    torch.testing.assert_close(ours.advantages_S, want, atol=1e-6, rtol=1e-6)
    assert float(want.abs().min()) > 0.0
