"""Training configurations: presets, overrides, and faults that name their field."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from etude_trainer.cli import app
from etude_trainer.config import TrainingConfig, load_config, parse_config
from etude_trainer.errors import ConfigError
from etude_trainer.presets import PRESETS
from etude_trainer.settings import Settings


def test_toolrl() -> None:
    config = parse_config("")
    assert config.preset == "toolrl"
    assert (config.objective.clip_low, config.objective.clip_high) == (0.2, 0.2)
    assert config.objective.entropy_coef == 0.001
    assert config.optimizer.lr == 1e-6
    assert config.optimizer.betas == (0.9, 0.999)
    assert config.optimizer.rates().kind == "constant"
    assert config.batch.mini_batch_groups == 128
    assert config.objective.settings().importance_cap == 2.0


def test_toolexpander() -> None:
    config = parse_config("", preset="toolexpander")
    assert (config.objective.clip_low, config.objective.clip_high) == (0.2, 0.28)
    assert (config.objective.kl_beta, config.objective.entropy_coef) == (0.0, 0.0)
    assert config.advantage.std_floor == 0.1
    rates = config.optimizer.rates()
    assert (rates.kind, rates.factor, rates.period_steps, rates.floor) == (
        "exponential",
        0.85,
        7,
        0.1,
    )


def test_a_file_overrides_its_preset_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "training.toml"
    path.write_text('preset = "toolexpander"\n[optimizer]\nlr = 2e-5\n', encoding="utf-8")
    config = load_config(path)
    assert config.optimizer.lr == 2e-5
    assert config.optimizer.schedule == "exponential"
    assert load_config(path, preset="toolrl").optimizer.schedule == "constant"


def test_zero_is_none() -> None:
    config = parse_config("[objective]\nimportance_cap = 0\n[batch]\nmini_batch_groups = 0\n")
    assert config.objective.settings().importance_cap is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[objective]\nclip_lo = 0.2", "objective.clip_lo"),
        ("[objective]\nclip_low = 1.5", "objective.clip_low"),
        ('[optimizer]\nlr = "fast"', "optimizer.lr"),
        ("[optimizer]\nlr = nan", "optimizer.lr"),
        ("[optimizer]\nbetas = [0.9]", "optimizer.betas"),
        ('[objective]\naggregation = "bnpo"', "objective.aggregation"),
        ("[batch]\nmicro_batch_tokens = 3", "batch.micro_batch_tokens"),
        ('[advantage]\nkind = "dr_grpo"\nstd_floor = 0.1', "advantage"),
        ("[trainer]\nx = 1", "trainer"),
        ("optimizer = 3", "optimizer"),
        ('preset = "best"', "preset"),
        ("preset = 3", "preset"),
        ("[objective\n", "not valid TOML"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        parse_config(text)
    path = tmp_path / "training.toml"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["config", "--config", str(path)])
    assert result.exit_code == 2
    assert field in result.stderr


def test_the_command_prints_what_would_be_used() -> None:
    result = CliRunner().invoke(app, ["config", "--preset", "toolexpander"])
    assert result.exit_code == 0
    assert TrainingConfig.model_validate_json(result.stdout) == parse_config(
        "", preset="toolexpander"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--config", "/no/such/file"], "/no/such/file: cannot be read"),
        (["run"], "ETUDE_RUN"),
        (["run", "--run", "r"], "ETUDE_TRAINER_MODEL"),
        (["run", "--run", "r", "--port", "99999"], "ETUDE_TRAINER_PORT"),
    ],
)
def test_a_command_that_cannot_start_says_why(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    for name in ("ETUDE_RUN", "ETUDE_TRAINER_MODEL", "ETUDE_TRAINER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_taken_address_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = ["run", "--run", "r", "--model", str(tmp_path), "--port", port]
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    told = f"etude-trainer: cannot serve on 127.0.0.1:{port}: Address already in use; "
    assert line == told + "give --port or ETUDE_TRAINER_PORT another one"


def tables(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The model and every table in it."""
    found = [model]
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += tables(field.annotation)
    return found


@pytest.mark.parametrize("model", [*tables(TrainingConfig), Settings])
def test_every_field_explains_itself(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_known_fields_only(name: str) -> None:
    assert parse_config("", preset=name).preset == name


def test_the_name_on_the_wire() -> None:
    assert Settings(trainer_name="t-1").name() == "t-1"
    assert Settings(trainer_name="").name().startswith("trainer-")
