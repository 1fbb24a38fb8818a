"""The Kubernetes manifests as kustomize renders them, and what schemas do not find in them."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from support.contract import openapi, operations

Manifest = dict[str, Any]
KUBERNETES = "1.37"
CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("postgresql.cnpg.io/v1", "Cluster"),
}
"""Kinds of operators, whose schemas are theirs."""
_PINNED = re.compile(r":v?\d+\.\d+(\.\d+)?(-[a-z0-9]+)?$")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?")
_ROLES = {8321: "sampler", 8322: "rollout", 8323: "trainer"}
_ENGINE_PORT = 8324


def render(folder: Path) -> list[Manifest]:
    """All manifests of a kustomization."""
    tool = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [str(tool), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Name -> manifest of one kind."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that makes pods."""

    manifest: Manifest

    @property
    def name(self) -> str:
        """For messages: kind and name."""
        return f"{self.manifest['kind']} {self.manifest['metadata']['name']}"

    @property
    def is_job(self) -> bool:
        """Whether its pods end by themselves."""
        return bool(self.manifest["kind"] == "Job")

    @property
    def template(self) -> Manifest:
        """Of its pods."""
        found: Manifest = self.manifest["spec"]["template"]
        return found

    @property
    def pod(self) -> Manifest:
        """What its pods are."""
        found: Manifest = self.template["spec"]
        return found

    @property
    def labels(self) -> dict[str, str]:
        """Of its pods."""
        found: dict[str, str] = self.template["metadata"]["labels"]
        return found

    @property
    def containers(self) -> list[Manifest]:
        """Those that run, sidecars among them."""
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Port by name."""
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", [])
        }


def workloads(manifests: list[Manifest]) -> list[Workload]:
    """Everything that makes pods."""
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "Job")
    return [Workload(one) for one in manifests if one["kind"] in kinds]


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector chooses what has these labels."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def faults(manifests: list[Manifest], *, external: set[str]) -> list[str]:
    """Everything that is wrong; `external` are Secrets that somebody else makes."""
    found: list[str] = []
    for manifest in manifests:
        found += _schema(json.dumps(manifest, sort_keys=True))
    for workload in workloads(manifests):
        found += [f"{workload.name}: {fault}" for fault in _pod(workload)]
        found += [f"{workload.name}: {fault}" for fault in _sources(workload, manifests, external)]
    found += _selectors(manifests)
    found += _closed(manifests)
    return found


@functools.cache
def _schema(text: str) -> tuple[str, ...]:
    """Of one manifest as JSON: reading the schemas takes far longer than what they are read for."""
    manifest: Manifest = json.loads(text)
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    if (manifest["apiVersion"], manifest["kind"]) in CUSTOM:
        return ()
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except (
        kubernetes_validate.ValidationError,
        kubernetes_validate.SchemaNotFoundError,
    ) as error:
        return (f"{name}: {getattr(error, 'message', error)}",)
    return ()


def _pod(workload: Workload) -> Iterator[str]:
    pod = workload.pod
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield "runs as root"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if pod.get("enableServiceLinks") is not False:
        yield "gets service links, which overwrite settings"
    if pod.get("automountServiceAccountToken") is not False:
        yield "gets a token of the Kubernetes API"
    for container in workload.containers:
        for fault in _container(workload, container):
            yield f"container {container['name']}: {fault}"


def _container(workload: Workload, container: Manifest) -> Iterator[str]:
    if not _PINNED.search(container["image"]):
        yield f"image {container['image']} is not pinned"
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "writes to its root file system"
    if context.get("capabilities") != {"drop": ["ALL"]} or context.get("runAsUser") == 0:
        yield "keeps capabilities"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
        yield "requests no cpu or no memory"
    if "memory" not in resources.get("limits", {}):
        yield "has no limit of memory"
    for part in ("requests", "limits"):
        for name, value in resources.get(part, {}).items():
            if not _QUANTITY.fullmatch(str(value)):
                yield f"{part} {value!r} of {name}"
    yield from _probes(workload, container)


def _probes(workload: Workload, container: Manifest) -> Iterator[str]:
    is_sidecar = container.get("restartPolicy") == "Always"
    wanted = {"livenessProbe", "startupProbe"}
    wanted |= set() if is_sidecar else {"readinessProbe"}
    for probe in sorted(wanted - container.keys()):
        if not workload.is_job:
            yield f"has no {probe}"
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    for name in ports:
        if len(name) > 15:
            yield f"port name {name} is too long"
    for probe in ("livenessProbe", "startupProbe", "readinessProbe"):
        asked = container.get(probe, {}).get("httpGet") or container.get(probe, {}).get("tcpSocket")
        if not asked:
            continue
        if asked["port"] not in ports:
            yield f"{probe} asks port {asked['port']}, which it does not have"
        elif "path" in asked:
            role = _ROLES[ports[asked["port"]]]
            if ("GET", asked["path"]) not in operations(openapi(role)).values():
                yield f"{probe} asks {asked['path']}, which is no route of {role}"


def _sources(workload: Workload, manifests: list[Manifest], external: set[str]) -> Iterator[str]:
    """Volumes and where they come from."""
    secrets = {*named(manifests, "Secret"), *external}
    maps, claims = named(manifests, "ConfigMap"), named(manifests, "PersistentVolumeClaim")
    volumes = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
    own = workload.manifest["spec"].get("volumeClaimTemplates", [])
    known = {*volumes, *(claim["metadata"]["name"] for claim in own)}
    for volume in volumes.values():
        asked = [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        names = [source["name"] for source in asked]
        names += [volume["secret"]["secretName"]] if "secret" in volume else []
        for name in names:
            if name not in secrets:
                yield f"Secret {name} does not exist"
        if "configMap" in volume and volume["configMap"]["name"] not in maps:
            yield f"ConfigMap {volume['configMap']['name']} does not exist"
        claim = volume.get("persistentVolumeClaim")
        if claim and claim["claimName"] not in claims:
            yield f"claim {claim['claimName']} does not exist"
    for container in workload.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in known:
                yield f"volume {mount['name']} does not exist"


def _selectors(manifests: list[Manifest]) -> Iterator[str]:
    made = workloads(manifests)
    for one in made:
        if not one.is_job and not selects(one.manifest["spec"]["selector"], one.labels):
            yield f"{one.name}: its selector does not choose its own pods"
    for name, service in named(manifests, "Service").items():
        chosen = [
            w for w in made if selects({"matchLabels": service["spec"]["selector"]}, w.labels)
        ]
        if not chosen:
            yield f"Service {name}: chooses no pods"
        for port in service["spec"]["ports"]:
            if any(port["targetPort"] not in w.ports for w in chosen):
                yield f"Service {name}: its pods have no port {port['targetPort']}"
            if port["port"] == _ENGINE_PORT:
                yield f"Service {name}: leads to vLLM's control routes"
    for kind in ("PodDisruptionBudget", "ServiceMonitor", "PodMonitor"):
        for name, other in named(manifests, kind).items():
            if not any(selects(other["spec"]["selector"], w.labels) for w in made):
                yield f"{kind} {name}: chooses no pods"
    targets = {w.manifest["metadata"]["name"] for w in made if w.manifest["kind"] == "Deployment"}
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for name, other in named(manifests, kind).items():
            if other["spec"]["scaleTargetRef"]["name"] not in targets:
                yield f"{kind} {name}: scales nothing"


def _closed(manifests: list[Manifest]) -> Iterator[str]:
    """Network policies: all is closed, and what is opened exists."""
    policies = named(manifests, "NetworkPolicy")
    shut = [p["spec"] for p in policies.values() if p["spec"]["podSelector"] == {}]
    if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in shut:
        yield "no NetworkPolicy closes the namespace"
    made = workloads(manifests)
    clusters = [{"cnpg.io/cluster": name} for name in named(manifests, "Cluster")]
    for name, policy in policies.items():
        chosen = [w for w in made if selects(policy["spec"]["podSelector"], w.labels)]
        others = [labels for labels in clusters if selects(policy["spec"]["podSelector"], labels)]
        if not chosen and not others:
            yield f"NetworkPolicy {name}: chooses no pods"
        ports = {port for w in chosen for port in w.ports}
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if isinstance(port["port"], str) and port["port"] not in ports:
                    yield f"NetworkPolicy {name}: its pods have no port {port['port']}"
