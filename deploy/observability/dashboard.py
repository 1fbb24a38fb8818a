"""Writes Grafana's dashboard from the list of panels below, and the alerts for an operator.

Run as a script it rewrites both files; tests/architecture/test_observability.py
holds them to this list, and queries to the metrics that exist. Standard library only.
"""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent
from typing import Final, NamedTuple

OUT: Final = Path(__file__).with_name("grafana") / "etude.json"
ALERTS: Final = Path(__file__).with_name("alerts.yaml")
RULE: Final = Path(__file__).with_name("prometheus-rule.yaml")
_WIDTH, _HEIGHT, _PER_ROW = 8, 8, 3
_SOURCE: Final = {"type": "prometheus", "uid": "etude"}
_RUN: Final = '{run="$run"}'


class Panel(NamedTuple):
    """One graph: its title, its unit, and (query, legend) of each line."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    says: str = ""


def _of_run(metric: str, *by: str, **labels: str) -> str:
    """A metric of the chosen run; replicas tell the same, so the largest of them."""
    chosen = ",".join(['run="$run"', *(f'{name}="{value}"' for name, value in labels.items())])
    return f"max by ({', '.join(('run', *by))}) ({metric}{{{chosen}}})"


def _grown(metric: str, *by: str) -> str:
    """How much a counter of the run grew in ten minutes."""
    return f"max by ({', '.join(('run', *by))}) (increase({metric}{_RUN}[10m]))"


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Curriculum": (
        Panel(
            "Mastery", "percentunit", ((_of_run("etude_run_mastery", "subtask"), "{{subtask}}"),)
        ),
        Panel(
            "Slots per lane",
            "percentunit",
            ((_of_run("etude_run_lane_share", "lane"), "{{lane}}"),),
        ),
        Panel(
            "Informative groups",
            "percentunit",
            (
                (
                    f"{_grown('etude_run_informative_groups_total', 'arm')} / "
                    f"{_grown('etude_run_groups_total', 'arm')}",
                    "{{arm}}",
                ),
            ),
            "Curriculum against control arm: does the curriculum find what teaches?",
        ),
        Panel(
            "Weights of the reward's components",
            "none",
            ((_of_run("etude_run_component_weight", "subtask"), "{{subtask}}"),),
        ),
        Panel("Tasks", "none", ((_of_run("etude_run_tasks", "state"), "{{state}}"),)),
        Panel("Policy version", "none", ((_of_run("etude_run_policy_version"), "version"),)),
    ),
    "Flow": (
        Panel(
            "Ready queue",
            "none",
            (
                (_of_run("etude_run_ready_groups"), "ready"),
                (_of_run("etude_run_training_groups"), "in training"),
                (_of_run("etude_run_cap_groups"), "cap"),
            ),
        ),
        Panel("Leases", "none", ((_of_run("etude_run_leases", "kind"), "{{kind}}"),)),
        Panel(
            "Lost work in ten minutes",
            "none",
            (
                (_grown("etude_run_tasks_expired_total"), "tasks of expired leases"),
                (_grown("etude_run_groups_purged_total"), "groups too stale"),
                (_grown("etude_run_groups_evicted_total"), "groups evicted"),
            ),
        ),
        Panel(
            "Calls",
            "reqps",
            (("sum by (operation) (rate(etude_http_requests_total[1m]))", "{{operation}}"),),
        ),
        Panel(
            "Latency, 99th percentile",
            "s",
            (
                (
                    "histogram_quantile(0.99, sum by (operation, le) "
                    "(rate(etude_http_request_seconds_bucket[5m])))",
                    "{{operation}}",
                ),
            ),
        ),
        Panel("Trajectories in Redis", "bytes", ((_of_run("etude_run_cargo_bytes"), "bytes"),)),
    ),
    "Rollout": (
        Panel(
            "Rollouts",
            "ops",
            (
                (
                    "sum by (finish_reason) (rate(etude_rollout_rollouts_total[1m]))",
                    "{{finish_reason}}",
                ),
            ),
        ),
        Panel(
            "Sampled tokens a second",
            "none",
            (("sum(rate(etude_rollout_completion_tokens_total[1m]))", "tokens/s"),),
        ),
        Panel(
            "Parity gap to the trainer (nats)",
            "none",
            (("max by (instance) (etude_rollout_parity_gap_nats)", "{{instance}}"),),
        ),
    ),
    "Trainer": (
        Panel(
            "Reward and success",
            "none",
            (
                ("max(etude_trainer_reward_mean)", "reward"),
                ("max(etude_trainer_success_share)", "success"),
            ),
        ),
        Panel(
            "Health of a step",
            "none",
            (
                ("max(etude_trainer_gradient_norm)", "gradient norm"),
                ("max(etude_trainer_clip_share)", "clip share"),
                ("max(etude_trainer_kl_rollout_nats)", "KL to rollout"),
                ("max(etude_trainer_staleness_versions)", "staleness"),
            ),
        ),
        Panel(
            "Time of a step by stage",
            "s",
            (("max by (stage) (etude_trainer_stage_seconds)", "{{stage}}"),),
        ),
    ),
}
"""Row -> its panels, in reading order."""


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, object]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": _SOURCE,
                "expr": expr,
                "legendFormat": legend,
            }
            for i, (expr, legend) in enumerate(panel.queries)
        ],
    }


def dashboard() -> dict[str, object]:
    """The dashboard as Grafana's JSON model."""
    panels: list[dict[str, object]] = []
    y = 0
    for row, members in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": row,
                "collapsed": False,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": y},
                "panels": [],
            }
        )
        y += 1
        for i, member in enumerate(members):
            x, down = i % _PER_ROW * _WIDTH, i // _PER_ROW * _HEIGHT
            panels.append(_panel(len(panels) + 1, member, x, y + down))
        y += -(-len(members) // _PER_ROW) * _HEIGHT
    variable = {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(etude_run_info, run)",
        "refresh": 2,
        "sort": 1,
    }
    return {
        "uid": "etude",
        "title": "Etude",
        "tags": ["etude"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }


def text() -> str:
    """What the dashboard's file holds."""
    return json.dumps(dashboard(), indent=2) + "\n"


def rule_text() -> str:
    """The alerts as the Prometheus operator reads them."""
    alerts = ALERTS.read_text("utf-8")
    head = (
        "# Made of alerts.yaml by dashboard.py.\napiVersion: monitoring.coreos.com/v1\n"
        "kind: PrometheusRule\nmetadata:\n  name: etude\nspec:\n"
    )
    return head + indent(alerts[alerts.index("groups:") :], "  ")


if __name__ == "__main__":
    OUT.write_text(text(), encoding="utf-8")
    RULE.write_text(rule_text(), encoding="utf-8")
