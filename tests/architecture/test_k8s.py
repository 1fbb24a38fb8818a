"""The Kubernetes manifests: valid, closed, in step with the code; and each fault would be found."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperCommand, TyperGroup

from etude_rollout import cli as rollout_cli
from etude_rollout.settings import RolloutSettings
from etude_sampler import __version__
from etude_sampler import cli as sampler_cli
from etude_sampler.settings import Settings as SamplerSettings
from etude_trainer import cli as trainer_cli
from etude_trainer.config import load_config
from etude_trainer.settings import Settings as TrainerSettings
from support.compose import services
from support.manifests import Manifest, Workload, faults, named, render, workloads
from support.tree import ROOT

EXTERNAL = {
    "base": {"etude"},
    "overlays/cpu-demo": set[str](),
    "overlays/gpu": {"etude"},
    "overlays/production": {"etude", "postgres-app"},
}
PROGRAMS: dict[str, tuple[typer.Typer, set[str]]] = {
    "etude": (sampler_cli.app, set(SamplerSettings.model_fields)),
    "etude-rollout": (rollout_cli.main, set(RolloutSettings.model_fields)),
    "etude-trainer": (trainer_cli.app, set(TrainerSettings.model_fields)),
}
BY_FILE = {"ETUDE_DATABASE_URL_FILE", "ETUDE_REDIS_URL_FILE"}
"""Read by deploy/images/with-secrets."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ with the secrets that a person makes first."""
    folder = tmp_path_factory.mktemp("deploy")
    ignored = shutil.ignore_patterns("secrets", "__pycache__")
    shutil.copytree(ROOT / "deploy", folder, dirs_exist_ok=True, ignore=ignored)
    made = folder / "k8s/overlays/cpu-demo/secrets"
    subprocess.run([str(folder / "compose/make-secrets"), str(made)], check=True)
    return folder


@pytest.fixture(scope="module")
def rendered(tree: Path) -> dict[str, list[Manifest]]:
    """Folder below deploy/k8s -> its manifests."""
    return {name: render(tree / "k8s" / name) for name in EXTERNAL}


@pytest.mark.parametrize("name", EXTERNAL)
def test_nothing_is_wrong(rendered: dict[str, list[Manifest]], name: str) -> None:
    assert faults(rendered[name], external=EXTERNAL[name]) == []


def command_of(words: list[str]) -> tuple[TyperCommand, list[str]]:
    """The command that a container runs, and its arguments; `torchrun` starts a module of ours."""
    if words[0] == "torchrun":
        module = words.index("-m")
        assert words[module + 1 : module + 3] == ["etude_trainer", "--"]
        words = ["etude-trainer", *words[module + 3 :]]
    program, *rest = words
    command: object = typer.main.get_command(PROGRAMS[program][0])
    while isinstance(command, TyperGroup):
        command = command.commands[rest.pop(0)]
    assert isinstance(command, TyperCommand)
    return command, rest


def ours(manifests: list[Manifest]) -> Iterator[tuple[Workload, Manifest]]:
    """Containers that run our commands."""
    for workload in workloads(manifests):
        for container in workload.containers:
            if container["image"].startswith("etude-") and "engine" not in container["image"]:
                yield workload, container


@pytest.mark.parametrize("name", EXTERNAL)
def test_commands_and_variables_exist(rendered: dict[str, list[Manifest]], name: str) -> None:
    for workload, container in ours(rendered[name]):
        command, rest = command_of(container["args"])
        command.make_context(command.name, rest)
        program = "etude-trainer" if container["args"][0] == "torchrun" else container["args"][0]
        known = {f"ETUDE_{field.upper()}" for field in PROGRAMS[program][1]} | BY_FILE
        given = {variable["name"] for variable in container.get("env", [])}
        assert given <= known, f"{workload.name}: {given - known}"
        assert container["image"].endswith(f":{__version__}")
        for variable in container.get("env", []):
            if variable["name"].endswith("_FILE"):
                assert any(
                    variable["value"].startswith(mount["mountPath"] + "/")
                    for mount in container["volumeMounts"]
                )


@pytest.mark.parametrize("name", EXTERNAL)
def test_jobs_carry_the_version_that_they_are_for(
    rendered: dict[str, list[Manifest]], name: str
) -> None:
    jobs = named(rendered[name], "Job")
    assert f"migrate-{__version__.replace('.', '-')}" in jobs
    for job in jobs:
        assert job == "trainer" or job.endswith(__version__.replace(".", "-")), job


@pytest.mark.parametrize("name", ["overlays/gpu", "overlays/production"])
def test_the_engine_is_that_of_compose_and_listens_to_its_pod_alone(
    rendered: dict[str, list[Manifest]], name: str
) -> None:
    pod = Workload(named(rendered[name], "Deployment")["rollout"]).pod
    engine = next(one for one in pod["initContainers"] if one["name"] == "engine")
    given = dict(word.split("=", 1) for word in engine["args"] if "=" in word)
    wanted = dict(
        word.split("=", 1) for word in services()["engine"].spec["command"] if "=" in word
    )
    assert given.pop("--host") == "127.0.0.1"
    wanted.pop("--host")
    wanted["--gpu-memory-utilization"] = given["--gpu-memory-utilization"]
    assert given == wanted
    environment = {variable["name"]: variable["value"] for variable in engine["env"]}
    assert environment == services()["engine"].environment
    assert "ports" not in engine


def test_the_trainer_s_configuration_is_that_of_compose(
    rendered: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    text = named(rendered["overlays/gpu"], "ConfigMap")["trainer"]["data"]["trainer.toml"]
    compose = (ROOT / "deploy/compose/trainer-gpu.toml").read_text("utf-8")
    assert tomllib.loads(text) == tomllib.loads(compose)
    (tmp_path / "trainer.toml").write_text(text)
    load_config(tmp_path / "trainer.toml")


def test_ranks_meet_where_the_service_leads(rendered: dict[str, list[Manifest]]) -> None:
    manifests = rendered["overlays/gpu"]
    job, service = named(manifests, "Job")["trainer"], named(manifests, "Service")["trainer"]
    (container,) = Workload(job).containers
    flags = dict(word.split("=", 1) for word in container["args"] if "=" in word)
    port = service["spec"]["ports"][0]["port"]
    assert flags["--rdzv-endpoint"] == f"trainer-0.{Workload(job).pod['subdomain']}:{port}"
    assert service["metadata"]["name"] == Workload(job).pod["subdomain"]
    assert int(flags["--nnodes"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    gpus = int(container["resources"]["limits"]["nvidia.com/gpu"])
    assert int(flags["--nproc-per-node"]) == gpus


def test_the_operator_s_alerts_are_the_alerts() -> None:
    folder = ROOT / "deploy/observability"
    rule = yaml.safe_load((folder / "prometheus-rule.yaml").read_text("utf-8"))
    assert rule["spec"] == yaml.safe_load((folder / "alerts.yaml").read_text("utf-8"))


def test_workers_scale_by_a_metric_that_exists(rendered: dict[str, list[Manifest]]) -> None:
    from etude_sampler.observability.run_metrics import ALL

    scaled = named(rendered["overlays/production"], "ScaledObject")["rollout"]
    metadata = scaled["spec"]["triggers"][0]["metadata"]
    asked = set(re.findall(r"\betude_\w+", metadata["query"]))
    assert asked <= {one.name for one in ALL}
    worker = Workload(named(rendered["overlays/gpu"], "Deployment")["rollout"])
    variables = {v["name"]: v["value"] for c in worker.containers for v in c.get("env", [])}
    held = int(variables["ETUDE_BATCHES_IN_FLIGHT"]) * int(variables["ETUDE_TASKS_PER_BATCH"])
    assert int(metadata["threshold"]) == held
    assert f'name="{variables["ETUDE_RUN"]}"' in metadata["query"]


Change = Callable[[list[Manifest]], object]


def _sampler(manifests: list[Manifest]) -> Manifest:
    found: Manifest = named(manifests, "Deployment")["sampler"]["spec"]
    return found


def _container(manifests: list[Manifest]) -> Manifest:
    found: Manifest = _sampler(manifests)["template"]["spec"]["containers"][0]
    return found


def _first(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    return named(manifests, kind)[name]


CHANGES: list[tuple[str, Change]] = [
    ("selector does not choose", lambda m: _sampler(m)["selector"]["matchLabels"].update(a="b")),
    ("has no readinessProbe", lambda m: _container(m).pop("readinessProbe")),
    ("has no livenessProbe", lambda m: _container(m).pop("livenessProbe")),
    ("is no route", lambda m: _container(m)["livenessProbe"]["httpGet"].update(path="/health")),
    ("is not pinned", lambda m: _container(m).update(image="etude-sampler:latest")),
    ("is not pinned", lambda m: _container(m).update(image="etude-sampler")),
    (
        "runs as root",
        lambda m: _sampler(m)["template"]["spec"]["securityContext"].update(runAsUser=0),
    ),
    ("keeps capabilities", lambda m: _container(m)["securityContext"].pop("capabilities")),
    ("root file system", lambda m: _container(m)["securityContext"].clear()),
    ("has no limit of memory", lambda m: _container(m)["resources"].pop("limits")),
    ("requests '250q'", lambda m: _container(m)["resources"]["requests"].update(cpu="250q")),
    ("service links", lambda m: _sampler(m)["template"]["spec"].pop("enableServiceLinks")),
    (
        "HorizontalPodAutoscaler sampler",
        lambda m: _first(m, "HorizontalPodAutoscaler", "sampler").update(
            apiVersion="autoscaling/v2beta2"
        ),
    ),
    (
        "PodDisruptionBudget sampler",
        lambda m: _first(m, "PodDisruptionBudget", "sampler").update(apiVersion="policy/v1beta1"),
    ),
    (
        "chooses no pods",
        lambda m: _first(m, "PodDisruptionBudget", "sampler")["spec"]["selector"].update(
            matchLabels={"app": "sampler"}
        ),
    ),
    (
        "Service sampler: chooses no pods",
        lambda m: _first(m, "Service", "sampler")["spec"].update(selector={"app": "sampler"}),
    ),
    (
        "have no port web",
        lambda m: _first(m, "Service", "sampler")["spec"]["ports"][0].update(targetPort="web"),
    ),
    (
        "Secret other does not exist",
        lambda m: _sampler(m)["template"]["spec"]["volumes"][0]["secret"].update(
            secretName="other"
        ),
    ),
    (
        "scales nothing",
        lambda m: _first(m, "HorizontalPodAutoscaler", "sampler")["spec"]["scaleTargetRef"].update(
            name="other"
        ),
    ),
    ("closes the namespace", lambda m: m.remove(_first(m, "NetworkPolicy", "closed"))),
    ("additional properties", lambda m: _sampler(m).update(replica=3)),
]


@pytest.mark.parametrize(
    ("said", "change"), CHANGES, ids=[f"{n}-{said[:24]}" for n, (said, _) in enumerate(CHANGES)]
)
def test_each_fault_is_found(
    rendered: dict[str, list[Manifest]], said: str, change: Change
) -> None:
    changed = copy.deepcopy(rendered["base"])
    change(changed)
    found = faults(changed, external=EXTERNAL["base"])
    assert any(said.lower() in fault.lower() for fault in found), found
