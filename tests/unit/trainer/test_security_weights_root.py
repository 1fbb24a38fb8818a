"""The trainer adopts announced weights from below its root only, links followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from etude_trainer.errors import CheckpointError
from etude_trainer.weights.disk import below


def test_below_its_root_only(tmp_path: Path) -> None:
    root, outside = tmp_path / "weights", tmp_path / "outside"
    (root / "run" / "v1").mkdir(parents=True)
    (outside / "v1").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    good = root / "run" / "v1"
    for uri in (str(good), f"file://{good}", f"file://localhost{good}", "run/v1"):
        assert below(root, uri) == good.resolve()
    for uri in (
        str(outside / "v1"),
        str(root),
        str(root / "link" / "v1"),
        f"{root}/run/../../outside/v1",
        f"file://{root}/run/%2e%2e/%2e%2e/outside/v1",
        f"file://host{good}",
        "../outside/v1",
    ):
        with pytest.raises(CheckpointError):
            below(root, uri)
