"""Prometheus metrics, each declared once; made from the board when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..status import Stage, StatusBoard

STEP_GAUGES: Final[dict[str, tuple[str, str]]] = {
    "loss": ("etude_trainer_loss", "Loss of the last step"),
    "reward_mean": ("etude_trainer_reward_mean", "Mean rule reward of the last step"),
    "success_share": ("etude_trainer_success_share", "Share of successful rollouts"),
    "tokens_per_s": ("etude_trainer_tokens_per_second", "Tokens trained on per second"),
    "lr": ("etude_trainer_learning_rate", "Learning rate of the last step"),
    "grad_norm": ("etude_trainer_gradient_norm", "Gradient norm before clipping"),
    "clip_share": ("etude_trainer_clip_share", "Share of tokens cut off by the clip"),
    "kl_rollout": ("etude_trainer_kl_rollout_nats", "KL to the rollout engine, a token"),
    "importance_mean": ("etude_trainer_importance_mean", "Mean truncated importance weight"),
    "importance_max": ("etude_trainer_importance_max", "Largest truncated importance weight"),
    "staleness_mean": ("etude_trainer_staleness_versions", "Mean age of the groups"),
    "num_groups": ("etude_trainer_batch_groups", "Groups of the last training batch"),
    "num_tokens": ("etude_trainer_batch_tokens", "Tokens of the last training batch"),
    "mfu": ("etude_trainer_mfu", "Share of the devices' bfloat16 peak; 0 where it is not known"),
    "memory_peak_bytes": ("etude_trainer_memory_peak_bytes", "Peak memory of rank 0"),
    "wait_share": ("etude_trainer_wait_share", "Share of the last step that was not training"),
    "seconds_step": ("etude_trainer_step_seconds", "From the end of one training to the next"),
    "entropy": ("etude_trainer_entropy_nats", "Entropy of the model where it sampled, a token"),
    "kl_reference": ("etude_trainer_kl_reference_nats", "KL to the reference, a token"),
    "num_updates_skipped": ("etude_trainer_updates_skipped", "Updates without a finite gradient"),
}
"""Metric of a step -> name and help of its gauge."""


class BoardCollector(Collector):
    """Reads the board at every scrape."""

    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """All metrics of the trainer."""
        snapshot = self._board.read()
        yield CounterMetricFamily(
            "etude_trainer_steps", "Steps of this process that counted", snapshot.num_steps
        )
        yield CounterMetricFamily(
            "etude_trainer_steps_rolled_back",
            "Steps of this process that were lost with their lease",
            snapshot.num_rolled_back,
        )
        if snapshot.policy_version is not None:
            yield GaugeMetricFamily(
                "etude_trainer_policy_version", "Version of the model", snapshot.policy_version
            )
        stages = GaugeMetricFamily("etude_trainer_stage", "1 for the stage now", labels=["stage"])
        for stage in Stage:
            stages.add_metric([stage.value], float(stage is snapshot.stage))
        yield stages
        seconds = GaugeMetricFamily(
            "etude_trainer_stage_seconds", "Time of a stage in the last step", labels=["stage"]
        )
        for name, value in snapshot.last_seconds.items():
            seconds.add_metric([name], value)
        yield seconds
        for key, (name, text) in STEP_GAUGES.items():
            if key in snapshot.last_metrics:
                yield GaugeMetricFamily(name, text, snapshot.last_metrics[key])


def registry_of(board: StatusBoard) -> CollectorRegistry:
    """A registry of one board, apart from the process-wide one."""
    registry = CollectorRegistry()
    registry.register(BoardCollector(board))
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """The exposition text."""
    return generate_latest(registry)
