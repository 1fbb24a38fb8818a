"""Prometheus metrics of the rollout service, each declared once, in a registry of its own.

Filled by `batch.py` and `worker.py`, served by `api/health.py`. Labels never name a task.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from etude_proto.v1 import FinishReason, Outcome

from .outbox import Delivered
from .weights.loader import LoadFacts

_SECONDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class RolloutMetrics:
    """Every metric of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.rollouts = Counter(
            "etude_rollout_rollouts",
            "Rollouts by how they ended.",
            ["finish_reason"],
            registry=registry,
        )
        self.tokens = Counter(
            "etude_rollout_completion_tokens", "Sampled tokens.", registry=registry
        )
        self.groups = Counter(
            "etude_rollout_groups",
            "Groups by what became of their report.",
            ["delivery"],
            registry=registry,
        )
        self.leases = Counter(
            "etude_rollout_leases", "Prompt batches by how they ended.", ["end"], registry=registry
        )
        self.given_back = Counter(
            "etude_rollout_given_back",
            "Tasks given back unreported, by how their prompt batch ended.",
            ["end"],
            registry=registry,
        )
        self.partial_groups = Counter(
            "etude_rollout_partial_groups",
            "Groups that ran out of time with some rollouts done.",
            registry=registry,
        )
        self.generate_seconds = Histogram(
            "etude_rollout_generate_seconds",
            "Time from prompt to the last completion of a group.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.score_seconds = Histogram(
            "etude_rollout_score_seconds",
            "Time to score a group.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.report_seconds = Histogram(
            "etude_rollout_report_seconds",
            "Time to deliver a group, retries included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.load_seconds = Histogram(
            "etude_rollout_weights_load_seconds",
            "Time to load published weights.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.loads = Counter(
            "etude_rollout_weights_loads",
            "Loads of published weights by the channel that brought them.",
            ["channel"],
            registry=registry,
        )
        self.load_failures = Counter(
            "etude_rollout_weights_load_failures",
            "Loads that failed, by reason.",
            ["reason"],
            registry=registry,
        )
        self.policy_version = Gauge(
            "etude_rollout_policy_version",
            "Version of the weights that the engine serves.",
            registry=registry,
        )
        self.parity_gap = Gauge(
            "etude_rollout_parity_gap_nats",
            "Largest difference to the trainer's log-probabilities at the last load.",
            registry=registry,
        )
        self.batches_in_flight = Gauge(
            "etude_rollout_batches_in_flight", "Prompt batches in work.", registry=registry
        )

    def count_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Take in one generated group."""
        for outcome in outcomes:
            self.rollouts.labels(outcome.finish_reason.value).inc()
        self.tokens.inc(sum(outcome.num_tokens for outcome in outcomes))
        reasons = {outcome.finish_reason for outcome in outcomes}
        if FinishReason.TIMEOUT in reasons and any(reason.is_valid for reason in reasons):
            self.partial_groups.inc()

    def count_delivery(self, delivered: Delivered) -> None:
        """Take in the end of one delivery."""
        self.groups.labels(delivered.delivery.value).inc()
        self.report_seconds.observe(delivered.seconds)

    def count_load(self, facts: LoadFacts) -> None:
        """Take in one load of weights."""
        self.loads.labels(facts.channel).inc()
        self.load_seconds.observe(facts.seconds)
        self.policy_version.set(facts.policy_version)
        if facts.parity_gap is not None:
            self.parity_gap.set(facts.parity_gap)
