"""docker-compose.yml agrees with the settings classes, the commands and the apps, and is closed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic_settings import BaseSettings
from typer.core import TyperCommand, TyperGroup

from etude_proto.v1 import Problem
from etude_rollout import cli as rollout_cli
from etude_rollout.engines.vllm_server import VllmOptions, server_arguments, server_environment
from etude_rollout.settings import RolloutSettings
from etude_sampler import cli as sampler_cli
from etude_sampler.lazy_commands import Later
from etude_sampler.settings import Settings as SamplerSettings
from etude_trainer import cli as trainer_cli
from etude_trainer.config import load_config
from etude_trainer.settings import Settings as TrainerSettings
from support.compose import Service, rendered, run_compose, services
from support.contract import openapi, operations
from support.tree import ROOT

PROGRAMS: dict[str, tuple[typer.Typer, type[BaseSettings], str]] = {
    "etude": (sampler_cli.app, SamplerSettings, "sampler"),
    "etude-rollout": (rollout_cli.main, RolloutSettings, "rollout"),
    "etude-trainer": (trainer_cli.app, TrainerSettings, "trainer"),
}
SERVICES = services()
OURS = [service for service in SERVICES.values() if service.is_ours and service.name != "engine"]
HAPROXY = (ROOT / "deploy/compose/haproxy.cfg").read_text("utf-8")
VALKEY = (ROOT / "deploy/compose/valkey.conf").read_text("utf-8")
MAX_INTERVAL_S = 2
SCHEMES = {"ETUDE_DATABASE_URL": "postgresql", "ETUDE_REDIS_URL": "redis"}
"""What the variables hold that `with-secrets` reads from files."""


def names(found: list[Service]) -> list[str]:
    """Ids of parametrised services."""
    return [service.name for service in found]


def command_of(service: Service) -> tuple[TyperCommand, list[str]]:
    """The command that a service runs, and its arguments."""
    program, *words = service.words
    command: object = typer.main.get_command(PROGRAMS[program][0])
    while isinstance(command, TyperGroup):
        command = command.commands[words.pop(0)]
    command = command.load() if isinstance(command, Later) else command
    assert isinstance(command, TyperCommand)
    return command, words


def variables(service: Service) -> Iterator[tuple[str, str]]:
    """Our variables as the program sees them, `with-secrets` having read the files."""
    native = {f"ETUDE_{name.upper()}" for name in PROGRAMS[service.words[0]][1].model_fields}
    native.add("ETUDE_API_KEY_FILE")  # commands read it, see `etude_sampler.cli_options`
    for name, value in service.environment.items():
        if name.endswith("_FILE") and name not in native:
            assert value.startswith("/run/secrets/"), name
            bare = name.removesuffix("_FILE")
            assert bare in (ROOT / "deploy/images/with-secrets").read_text("utf-8")
            yield bare, f"{SCHEMES[bare]}://from.a/file"
        else:
            yield name, value


@pytest.mark.parametrize("profile", ["cpu", "gpu", "cli", "*"])
def test_compose_accepts_the_file(profile: str) -> None:
    done = run_compose("--profile", profile, "config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_services_of_the_design_are_there() -> None:
    wanted = {"postgres", "redis", "migrate", "sampler", "proxy"}
    by_profile = {
        profile: {s.name for s in SERVICES.values() if profile in s.spec.get("profiles", [])}
        for profile in ("cpu", "gpu")
    }
    assert {s.name for s in SERVICES.values() if "profiles" not in s.spec} == wanted
    assert by_profile["cpu"] == {"model", "rollout", "trainer"}
    assert by_profile["gpu"] == {"engine", "rollout-gpu", "trainer-gpu"}
    assert SERVICES["sampler"].spec["deploy"]["replicas"] == 2


@pytest.mark.parametrize("service", OURS, ids=names(OURS))
def test_commands_exist_and_take_their_arguments(service: Service) -> None:
    command, words = command_of(service)
    command.make_context(command.name, words)


@pytest.mark.parametrize("service", OURS, ids=names(OURS))
def test_variables_are_settings(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "api_key"
    secret.write_text("secret\n")
    command, _ = command_of(service)
    kind = PROGRAMS[service.words[0]][1]
    known = {f"ETUDE_{name.upper()}" for name in kind.model_fields}
    known |= {str(option.envvar) for option in command.params if option.envvar}
    known |= {f"{name}_FILE" for name in known & {"ETUDE_API_KEY"}}
    for name, value in variables(service):
        assert name in known, f"{service.name}: {name} is no setting of {service.words[0]}"
        monkeypatch.setenv(name, str(secret) if name == "ETUDE_API_KEY_FILE" else value)
    kind()


@pytest.mark.parametrize("service", OURS, ids=names(OURS))
def test_the_image_is_the_program_s_own(service: Service) -> None:
    role = PROGRAMS[service.words[0]][2]
    assert service.spec["image"].startswith(f"etude-{role}")
    assert service.spec["build"]["dockerfile"] == f"deploy/images/{role}.Dockerfile"
    stages = [i.rest.split(" AS ")[1] for i in service.instructions if " AS " in i.rest]
    assert service.spec["build"].get("target", stages[0]) in stages


@pytest.mark.parametrize(
    ("name", "role", "field"),
    [
        ("sampler", "sampler", "port"),
        ("rollout", "rollout", "rollout_port"),
        ("rollout-gpu", "rollout", "rollout_port"),
        ("trainer", "trainer", "trainer_port"),
        ("trainer-gpu", "trainer", "trainer_port"),
    ],
)
def test_health_checks_ask_a_route_at_the_setting_s_port(name: str, role: str, field: str) -> None:
    service = SERVICES[name]
    port = PROGRAMS[service.words[0]][1].model_fields[field].default
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", service.health)
    assert found is not None
    assert int(found[1]) == port
    assert ("GET", found[2]) in operations(openapi(role)).values()
    assert str(port) in [i.rest for i in service.instructions if i.word == "EXPOSE"]


def test_one_address_leads_to_all_samplers() -> None:
    port = SamplerSettings.model_fields["port"].default
    (published,) = SERVICES["proxy"].spec["ports"]
    assert published["host_ip"] == "127.0.0.1"
    assert f"bind :{published['target']}\n" in HAPROXY
    assert re.search(rf"server-template \S+ \d+ sampler:{port}\n", HAPROXY)
    for service in SERVICES.values():
        url = service.environment.get("ETUDE_SAMPLER_URL")
        assert url in (None, f"http://proxy:{published['target']}")
        assert service.name in ("proxy", "grafana") or "ports" not in service.spec


def test_the_proxy_outlasts_a_long_poll_and_refuses_with_problems() -> None:
    for side in ("client", "server"):
        found = re.search(rf"timeout {side} (\d+)s", HAPROXY)
        assert found is not None
        assert int(found[1]) > 30
    bodies = re.findall(r"http-error status (\d+) .* string '(.*)'", HAPROXY)
    assert len(bodies) == 3
    for status, body in bodies:
        problem = Problem.model_validate_json(body)
        assert (problem.status, problem.retryable) == (int(status), True)


def test_the_engine_is_started_as_rollout_starts_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 1 << 20}))
    engine, rollout = SERVICES["engine"], SERVICES["rollout-gpu"]
    given = dict(word.split("=", 1) for word in engine.spec["command"] if "=" in word)
    url = rollout.environment["ETUDE_VLLM_URL"]
    options = VllmOptions(
        model_dir=tmp_path,
        port=int(url.rsplit(":", 1)[1]),
        python=Path("python3"),
        dtype="bfloat16",
    )
    words = server_arguments(options, on_cpu=False)
    wanted = {
        word: words[i + 1] if i + 1 < len(words) and not words[i + 1].startswith("--") else ""
        for i, word in enumerate(words)
        if word.startswith("--")
    }
    own = {"--host": "0.0.0.0", "--model": rollout.environment["ETUDE_MODEL_PATH"]}
    for flag, value in {**wanted, **own}.items():
        if not value:
            assert flag in engine.spec["command"]
        elif value.startswith("{"):
            assert json.loads(given[flag]) == json.loads(value)
        else:
            assert given[flag] == value, flag
    assert rollout.environment["ETUDE_DTYPE"] == given["--dtype"]
    wanted_environment = server_environment()
    assert {k: wanted_environment[k] for k in engine.environment} == engine.environment


def test_nobody_but_its_worker_reaches_the_engine() -> None:
    assert SERVICES["engine"].networks == {"engine"}
    members = {s.name for s in SERVICES.values() if "engine" in s.networks}
    assert members == {"engine", "rollout-gpu"}
    networks = rendered()["networks"]
    assert {name for name, spec in networks.items() if not spec.get("internal")} == {"edge"}
    assert {s.name for s in SERVICES.values() if "edge" in s.networks} == {
        *("proxy", "model", "grafana")
    }
    assert {s.name for s in SERVICES.values() if "data" in s.networks} == {
        *("postgres", "redis", "migrate", "sampler")
    }


@pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
def test_services_are_closed_and_bounded(service: Service) -> None:
    spec = service.spec
    users = [i.rest for i in service.instructions if i.word == "USER"] if service.is_ours else []
    user = str(spec.get("user") or users[-1])
    assert user.split(":")[0] not in ("", "0", "root")
    assert spec["read_only"] is True
    assert spec["cap_drop"] == ["ALL"]
    assert spec["security_opt"] == ["no-new-privileges:true"]
    assert any(folder.startswith("/tmp") for folder in spec["tmpfs"])
    assert {"cpus", "memory", "pids"} <= set(spec["deploy"]["resources"]["limits"])
    assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?$", spec["image"]), spec["image"]
    if not service.is_job:
        assert spec["restart"] == "unless-stopped"
        assert int(spec["healthcheck"]["interval"].removesuffix("s")) <= MAX_INTERVAL_S


@pytest.mark.parametrize("volume", ["weights", "models", "trainer-state"])
def test_only_makers_write_to_shared_volumes(volume: str) -> None:
    makers = {"weights": {"trainer", "trainer-gpu"}, "models": {"model"}}
    writers = {
        service.name
        for service in SERVICES.values()
        for mount in service.spec.get("volumes", [])
        if mount["source"] == volume and not mount.get("read_only")
    }
    assert writers == makers.get(volume, {"trainer", "trainer-gpu"})


def test_redis_keeps_its_data_and_evicts_nothing() -> None:
    lines = VALKEY.splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(lines)
    assert SERVICES["redis"].spec["volumes"][0]["target"] == "/data"


def test_the_gpu_s_training_configuration_is_valid() -> None:
    config = load_config(ROOT / "deploy/compose/trainer-gpu.toml")
    assert config.publish.dtype == "float32"
    assert config.model.autocast == SERVICES["rollout-gpu"].environment["ETUDE_DTYPE"]
