"""What the traces of a whole loop must show: each version's work in one trace, nothing dangling."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from etude_client.tracing import version_context

from .collector import Collector, Told

ROOT = "policy version"
STORY = {
    ("etude-rollout", "lease prompt batch"),
    ("etude-sampler", "POST /v1/runs/{run_id}/prompt-batches"),
    ("etude-rollout", "prompt batch"),
    ("etude-rollout", "load weights"),
    ("etude-rollout", "generate"),
    ("etude-rollout", "report"),
    ("etude-sampler", "POST /v1/leases/{lease_id}/groups"),
    ("etude-trainer", "lease training batch"),
    ("etude-sampler", "POST /v1/runs/{run_id}/training-batches"),
    ("etude-trainer", "step"),
    ("etude-trainer", "checkpoint"),
    ("etude-trainer", "publish"),
    ("etude-trainer", "ack"),
    ("etude-sampler", "POST /v1/training-batches/{lease_id}/ack"),
    ("etude-trainer", ROOT),
}
"""(service, span) of a version from its first lease to its end."""


def _by_trace(collector: Collector) -> dict[bytes, list[Told]]:
    found: dict[bytes, list[Told]] = defaultdict(list)
    for one in collector.spans:
        found[one.trace].append(one)
    return found


def check_traces(collector: Collector, run_id: str, *, num_versions: int) -> None:
    """Every finished version has its trace; spans hang together, and say run and lease.

    Args:
        collector: with everything that the services sent; they have ended.
        run_id: the run.
        num_versions: versions that were acked.
    """
    traces = _by_trace(collector)
    whole = 0
    for version in range(num_versions):
        spans = traces[version_context(run_id, version).trace_id.to_bytes(16, "big")]
        (root,) = [one for one in spans if one.name == ROOT]
        assert root.parent == b""
        assert (root.facts["etude.run"], root.facts["etude.policy_version"]) == (run_id, version)
        ids = {one.span for one in spans}
        dangling = [one for one in spans if one is not root and one.parent not in ids]
        assert dangling == []
        whole += {(one.service, one.name) for one in spans} >= STORY
    assert whole > num_versions // 2, f"{whole} of {num_versions} traces tell the whole story"
    for step in collector.named("step"):
        origin = [one for trace in {step.trace, *step.links} for one in traces[trace]]
        told = {one.name for one in origin}
        assert {"prompt batch", "report"} <= told, f"a step without an origin: {step}"
        assert str(step.facts["etude.lease"]).startswith("tb_")
    assert not [one for one in collector.spans if "url.path" in one.facts and is_watching(one)]


def check_logs(folder: Path, run_id: str) -> None:
    """What worker and trainer logged at work says which run, lease and trace it was about."""
    for name, event in (("rollout", "weights.loaded"), ("trainer", "step.done")):
        texts = (folder / f"{name}.log").read_text("utf-8", "replace").splitlines()
        lines = [json.loads(text) for text in texts if text.startswith("{")]
        assert all({"at", "level", "event", "logger"} <= line.keys() for line in lines)
        told = [line for line in lines if line["event"] == event]
        assert told, f"{name} logged no {event}"
        assert {line.get("run") for line in told} == {run_id}
        assert all(line.get("lease") for line in told)
        assert name == "trainer" or all(line.get("trace") for line in told)


def is_watching(told: Told) -> bool:
    """Whether a span is of a request that watches, not works."""
    return told.facts["url.path"] in ("/readyz", "/livez", "/metrics")
