"""Alerts, dashboard and scrape configuration ask for metrics, ports and labels that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml

from etude_proto.v1 import Arm, FinishReason, RunStatus
from support.tree import ROOT

sys.path.insert(0, str(ROOT / "proto"))
sys.path.insert(0, str(ROOT / "deploy" / "observability"))
import dashboard

from metrics_page import Told, told

FOLDER = ROOT / "deploy" / "observability"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
METRICS = {one.name: one for metrics in told().values() for one in metrics}
GIVEN = {"instance", "job", "le"}
"""Labels that Prometheus adds."""
VALUES = {
    "arm": set(Arm),
    "status": {*RunStatus, "5.."},
    "finish_reason": set(FinishReason),
    "kind": {"prompt", "training"},
    "run": {"$run"},
}


def metric_of(name: str) -> Told:
    """The metric that a name in a query is."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    found = METRICS.get(name) or METRICS.get(base)
    assert found is not None, f"no service has a metric {name}"
    assert (base == name) or found.kind == "histogram", name
    return found


def check(query: str) -> None:
    """Names, labels and label values of a query."""
    names = set(re.findall(r"\betude_\w+", query))
    assert names, query
    labels = {label for name in names for label in metric_of(name).labels} | GIVEN
    for group in re.findall(r"\b(?:by|without) \(([^)]*)\)", query):
        assert {label.strip() for label in group.split(",")} <= labels, query
    for name, chosen in re.findall(r"\b(etude_\w+)\{([^}]*)\}", query):
        for label, value in re.findall(r'(\w+)=~?"([^"]*)"', chosen):
            assert label in metric_of(name).labels, query
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label], query
    for name in re.findall(r"\b(?:rate|increase)\((etude_\w+)", query):
        assert metric_of(name).kind in ("counter", "histogram"), query


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_asks_for_what_there_is_and_says_what_to_do(rule: dict[str, Any]) -> None:
    check(rule["expr"])
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    assert f"\n### {rule['alert']}\n" in (ROOT / page).read_text("utf-8")


def test_every_alert_of_the_page_exists() -> None:
    page = (ROOT / "docs/how-to/observe.md").read_text("utf-8")
    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in RULES]


def panels() -> list[dict[str, Any]]:
    """The graphs of the committed dashboard."""
    found = json.loads((FOLDER / "grafana" / "etude.json").read_text("utf-8"))
    return [panel for panel in found["panels"] if panel["type"] != "row"]


def test_the_dashboard_is_its_list_of_panels() -> None:
    assert (FOLDER / "grafana" / "etude.json").read_text("utf-8") == dashboard.text()
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        check(target["expr"])
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        labels = {
            label
            for name in re.findall(r"\betude_\w+", target["expr"])
            for label in metric_of(name).labels
        }
        assert shown <= labels | GIVEN
    assert panel["datasource"]["uid"] == "etude"


def test_prometheus_scrapes_what_compose_starts() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text("utf-8"))
    ports = {"etude-sampler": 8321, "etude-rollout": 8322, "etude-trainer": 8323}
    for job in config["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        assert found["port"] == ports.pop(job["job_name"])
        for name in found["names"]:
            assert "loop" in compose["services"][name].get("networks", ["loop"])
    assert not ports
    (datasource,) = yaml.safe_load((FOLDER / "grafana/datasource.yaml").read_text())["datasources"]
    assert datasource["uid"] == "etude"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine")
def test_prometheus_accepts_the_rules() -> None:
    rules = subprocess.run(
        ["promtool", "check", "rules", str(FOLDER / "alerts.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rules.returncode == 0, rules.stderr
