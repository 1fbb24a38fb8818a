"""Charts: one point a step, also after a rewind and in a later process; W&B without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from etude_trainer.charts import EventFiles, Wandb, tagged


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of a scalar."""
    shown = EventAccumulator(str(folder), purge_orphaned_data=True)
    shown.Reload()
    return [(event.step, event.value) for event in shown.Scalars(tag)]


def draw(chart: EventFiles, versions: range, *, value: float) -> None:
    for version in versions:
        chart.add(version, {"learning/loss": value})


def test_a_discarded_future_is_not_shown_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    first = EventFiles(tmp_path)
    first.stand(0)
    draw(first, range(1, 6), value=1.0)
    first.stand(2)  # a lost lease, or a restored run
    draw(first, range(3, 5), value=2.0)
    first.close()
    again = EventFiles(tmp_path)  # the next process
    again.stand(4)
    draw(again, range(5, 7), value=3.0)
    again.close()
    expected = [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 3.0), (6, 3.0)]
    assert points(tmp_path, "learning/loss") == expected


def test_steps_are_there_before_the_file_is_closed(tmp_path: Path) -> None:
    chart = EventFiles(tmp_path)
    draw(chart, range(1, 3), value=0.5)
    assert points(tmp_path, "learning/loss") == [(1, 0.5), (2, 0.5)]
    chart.close()


def test_values_are_grouped() -> None:
    metrics = {"loss": 1.0, "tokens_per_s": 2.0, "num_groups": 4.0, "component_format": 0.5}
    found = tagged({**metrics, "seconds_train": 9.0}, {"train": 9.0, "ack": 0.1})
    assert found == {
        "learning/loss": 1.0,
        "speed/tokens_per_s": 2.0,
        "batch/num_groups": 4.0,
        "reward/component_format": 0.5,
        "seconds/train": 9.0,
        "seconds/ack": 0.1,
    }


@pytest.mark.slow
def test_wandb_offline_keeps_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    chart = Wandb(tmp_path, run_id="run_1", name="a run", mode="offline")
    chart.stand(0)
    chart.add(1, {"learning/loss": 0.25})
    chart.add(2, {"learning/loss": 0.125})
    chart.close()
    wandb.teardown()
    (file,) = (tmp_path / "wandb").glob("offline-run-*-run_1/run-run_1.wandb")
    rows = file.read_bytes()
    assert b"learning/loss" in rows
    assert b"0.25" in rows
    assert b"0.125" in rows
