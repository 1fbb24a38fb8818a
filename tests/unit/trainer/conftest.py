"""Fixtures of the trainer's unit tests: the tiny model, loaded as the trainer loads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etude_trainer.config import TrainingConfig, parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import Learner
from support.tiny_model import save_tiny_model


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's directory; read-only."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def config() -> TrainingConfig:
    """The default preset at a rate that moves the tiny model."""
    return parse_config("[optimizer]\nlr = 1e-3\n")


@pytest.fixture
def learner(tiny_dir: Path, config: TrainingConfig) -> Learner:
    """A fresh learner on the tiny model."""
    return build_learner(tiny_dir, config, device="cpu")
