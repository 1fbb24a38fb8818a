"""Settings and the command line: wrong ones are refused in one line, exit code 2."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from etude_rollout.cli import main
from etude_rollout.settings import RolloutSettings

COMMANDS = (["worker"], ["score"], ["models"], ["serve-vllm"], ["models", "make-tiny"])


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ETUDE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def refused(*arguments: str) -> str:
    """The one line that the refused command says."""
    result = run(*arguments)
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_every_field_explains_itself() -> None:
    for name, field in RolloutSettings.model_fields.items():
        assert field.description, name


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_TEMPERATURE", "0.7")
    monkeypatch.setenv("ETUDE_MODEL_PATH", "/models/x")
    monkeypatch.setenv("ETUDE_API_KEY", "secret")
    settings = RolloutSettings()
    assert settings.sampling.temperature == 0.7
    assert settings.model_path == Path("/models/x")
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ETUDE_TOP_P", "1.5"),
        ("ETUDE_ENGINE", "magic"),
        ("ETUDE_SAMPLER_URL", "ftp://x"),
        ("ETUDE_TASKS_PER_BATCH", "0"),
        ("ETUDE_TEMPERATURE", "warm"),
        ("ETUDE_NUM_SHOTS", "9"),
        ("ETUDE_WEIGHT_CHANNEL", "pigeon"),
        ("ETUDE_HEARTBEAT_FRACTION", "1"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert name in refused("worker", "--run", "r")


def test_a_worker_needs_a_run_and_a_model() -> None:
    assert "ETUDE_RUN" in refused("worker")
    assert "ETUDE_MODEL_PATH" in refused("worker", "--run", "r", "--model", "nowhere")


def test_a_taken_address_is_a_configuration_error(
    policy_dir: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_ROLLOUT_PORT", str(taken_port))
    line = refused("worker", "--run", "r", "--model", str(policy_dir))
    assert f"127.0.0.1:{taken_port}" in line


def test_vllm_needs_a_model_an_interpreter_and_a_free_port(
    policy_dir: Path, taken_port: int
) -> None:
    assert "no model" in refused("serve-vllm", "--model", "nowhere")
    model = ("serve-vllm", "--model", str(policy_dir))
    assert str(taken_port) in refused(*model, "--port", str(taken_port))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free_port = listener.getsockname()[1]
    line = refused(*model, "--port", str(free_port), "--python", "/no/such/python")
    assert "cannot run" in line


def test_vllm_says_nothing_on_standard_output(
    policy_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A summary as JSON is read by programs."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho loading\n")
    script.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    run("serve-vllm", "--model", str(policy_dir), "--port", port, "--python", str(script))
    told = capfd.readouterr()
    assert ("loading" in told.out, "loading" in told.err) == (False, True)


def test_models_do_not_replace_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "other files, such as notes.txt" in refused(
        "models", "fetch-smollm2", "--out", str(tmp_path)
    )
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for name in ("fetch-smollm2", "make-tiny"):
        assert "notes.txt" in refused("models", name, "--out", str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    text = re.sub(r"\s+", " ", result.stdout)
    assert "Usage" in text
    assert len(text) > 300


def test_a_channel_from_the_trainer_needs_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_WEIGHT_CHANNEL", "gloo")
    assert "ETUDE_TRAINER_URL" in refused("worker", "--run", "r")
    monkeypatch.setenv("ETUDE_TRAINER_URL", "http://trainer:8323")
    assert RolloutSettings().weight_channel == "gloo"
    monkeypatch.setenv("ETUDE_WEIGHT_CHANNEL", "nccl")
    assert "ETUDE_ENGINE=vllm" in refused("worker", "--run", "r")
