"""`docs/reference/metrics.md`: what each service tells Prometheus, from the declarations.

Called by `generate.py`. The names are what dashboards, alerts and autoscaling may ask for
(tests/architecture/test_observability.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from etude_rollout.metrics import RolloutMetrics
from etude_sampler.observability.metrics import make_metrics
from etude_sampler.observability.run_metrics import ALL, PLAIN
from etude_trainer.api.metrics import STEP_GAUGES, BoardCollector
from etude_trainer.status import StatusBoard

_HEAD = """\
Each service answers `/metrics` in Prometheus' text format; the sampler asks for a key with scope
`read` for all runs, if it asks for keys at all. Counters end in `_total`.

The `etude_run_*` come from PostgreSQL and Redis, so every replica of the sampler tells the same:
take `max by (run)`. The others are a process's own: take the sum. Dashboards and alerts:
[observe.md](../how-to/observe.md).
"""


class Told(NamedTuple):
    """One metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def told() -> dict[str, list[Told]]:
    """Service -> its metrics; counters with `_total`, histograms by their base name."""
    sampler = list(_declared(make_metrics()))
    for one in ALL:
        name, kind = (f"{one.name}_total", "counter") if one.is_counter else (one.name, "gauge")
        labels = () if one in PLAIN else ("run", *one.labels)
        sampler.append(Told(name, kind, labels, one.text))
    return {"sampler": sampler, "rollout": list(_declared(RolloutMetrics())), "trainer": _trainer()}


def _declared(holder: object) -> Iterator[Told]:
    """The metrics that an object holds as attributes."""
    names = getattr(holder, "__slots__", None) or vars(holder)
    for value in (getattr(holder, name) for name in names):
        if not isinstance(value, MetricWrapperBase):
            continue
        (family,) = value.describe()
        kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
        name = f"{family.name}_total" if isinstance(value, Counter) else family.name
        yield Told(name, kinds[type(value)], value._labelnames, family.documentation)


def _trainer() -> list[Told]:
    registry = CollectorRegistry()
    registry.register(BoardCollector(StatusBoard()))
    found = {}
    for family in registry.collect():
        labels = tuple(getattr(family, "_labelnames", ()))
        suffix = "_total" if family.type == "counter" else ""
        found[family.name] = Told(family.name + suffix, family.type, labels, family.documentation)
    for name, text in STEP_GAUGES.values():
        found.setdefault(name, Told(name, "gauge", (), text))
    return list(found.values())


def metrics_page(generated: str) -> str:
    """The page; `generated` says where it comes from."""
    lines = ["# Metrics", "", generated, "", _HEAD]
    for service, metrics in told().items():
        lines += [f"## {service.capitalize()}", "", *_table(metrics), ""]
    return "\n".join(lines)


def _table(metrics: Iterable[Told]) -> Iterator[str]:
    yield "| metric | kind | labels | says |"
    yield "|---|---|---|---|"
    for one in metrics:
        labels = " ".join(f"`{label}`" for label in one.labels) or "-"
        yield f"| `{one.name}` | {one.kind} | {labels} | {one.text.rstrip('.')} |"
