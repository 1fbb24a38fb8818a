"""Prometheus metrics, each declared once; labels are bounded (never a task or lease id)."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The sampler's metrics in one registry."""

    registry: CollectorRegistry
    requests: Counter
    seconds: Histogram


def make_metrics() -> Metrics:
    """Fresh metrics; one set an app."""
    registry = CollectorRegistry()
    return Metrics(
        registry,
        Counter(
            "etude_http_requests_total",
            "Requests by operation and status.",
            ("operation", "status"),
            registry=registry,
        ),
        Histogram(
            "etude_http_request_seconds",
            "Time from request to end of answer, long polls included.",
            ("operation",),
            buckets=_BUCKETS,
            registry=registry,
        ),
    )
