"""Prometheus beside the services: it reaches all of them, takes our rules, and every graph of the
dashboard is a query that it understands. Grafana itself has no stand-in."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import Any

from .bases import ROOT
from .shell import Failed, say
from .stage import Stage
from .waiting import await_that

WITHIN_S = 90.0
WANTED = {"etude-sampler": 2, "etude-rollout": 1, "etude-trainer": 1}
"""Scrape jobs and how many targets each has."""
DASHBOARD = ROOT / "deploy/observability/grafana/etude.json"


def check_observability(stage: Stage) -> None:
    """Start Prometheus and ask it. Raises Failed: something is not seen or not understood."""
    stage.up("prometheus")
    (name,) = stage.containers("prometheus")
    base = f"http://{stage.look(name).address}:9090/api/v1"
    await_that(lambda: _up(base) == WANTED, what=f"targets {WANTED} are up", within_s=WITHIN_S)
    rules = [rule for group in _ask(base, "rules")["groups"] for rule in group["rules"]]
    sick = [rule["name"] for rule in rules if rule["health"] == "err"]
    if sick or not rules:
        raise Failed(f"alert rules that fail: {sick} of {len(rules)}")
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    num_series = [len(_ask(base, "query", query=_filled(query))["result"]) for query in queries]
    say(
        f"Prometheus: {sum(WANTED.values())} targets up, {len(rules)} alert rules evaluated, "
        f"{len(queries)} queries of the dashboard taken, {sum(map(bool, num_series))} with data"
    )


def _filled(query: str) -> str:
    """A query as Grafana would send it."""
    return query.replace("$run", "loop").replace("$__rate_interval", "1m")


def _up(base: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for target in _ask(base, "targets")["activeTargets"]:
        if target["health"] == "up":
            job = target["labels"]["job"]
            found[job] = found.get(job, 0) + 1
    return found


def _ask(base: str, call: str, **query: str) -> dict[str, Any]:
    """An answer's data. Raises Failed: Prometheus refuses the call."""
    url = f"{base}/{call}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
    except OSError as error:
        detail = error.read().decode() if hasattr(error, "read") else ""
        raise Failed(f"Prometheus: {query or call}: {error} {detail}") from error
    return data
