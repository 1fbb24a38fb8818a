"""What the demo knows while it runs: read from the services' public surfaces, nothing made up."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

from etude_client import EtudeClient, EtudeError
from etude_proto.v1 import CurriculumView, HistoryPoint, Run


@dataclass(slots=True)
class Watch:
    """The newest picture of a run."""

    run: Run
    curriculum: CurriculumView | None = None
    history: list[HistoryPoint] = field(default_factory=list)
    rollout: dict[str, object] = field(default_factory=dict)
    trainer: dict[str, object] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Rollout seconds by stage since its process started: generate, score, report."""

    def refresh(self, client: EtudeClient, *, rollout_url: str, trainer_url: str) -> None:
        """Ask everyone; what does not answer keeps its last picture, marked as silent."""
        try:
            self.curriculum = client.get_curriculum(self.run.id)
            after = self.history[-1].policy_version if self.history else 0
            self.history += [
                point for point in client.iter_history(self.run.id) if point.policy_version > after
            ]
        except EtudeError:
            self.curriculum = None
        self.rollout = _status(rollout_url)
        self.trainer = _status(trainer_url)
        self.seconds = _rollout_seconds(rollout_url) or self.seconds


def _status(url: str) -> dict[str, object]:
    try:
        answer = httpx.get(f"{url}/v1/status", timeout=2.0)
        found: dict[str, object] = answer.json() if answer.is_success else {}
    except (httpx.HTTPError, ValueError):
        return {}
    return found


def _rollout_seconds(url: str) -> dict[str, float]:
    try:
        text = httpx.get(f"{url}/metrics", timeout=2.0).text
    except httpx.HTTPError:
        return {}
    found = {}
    for family in text_string_to_metric_families(text):
        for stage in ("generate", "score", "report", "weights_load"):
            if family.name == f"etude_rollout_{stage}_seconds":
                total = [s.value for s in family.samples if s.name.endswith("_sum")]
                found[stage] = sum(total)
    return found
