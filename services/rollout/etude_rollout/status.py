"""What the worker is doing now, as one object: kept by the worker, read by the API and the demo.

`metrics.py` counts for Prometheus; this is for people. Changed only in the event loop's thread.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import Field

from etude_proto.v1 import Outcome
from etude_proto.v1.base import Response

TOKEN_WINDOW_S = 30.0
"""Tokens per second are those of the last so many seconds."""


class Phase(StrEnum):
    """Where the worker is in its life."""

    STARTING = "starting"
    """The engine loads its model."""
    WAITING_FOR_RUN = "waiting_for_run"
    """The sampler cannot be reached, or it does not know the run yet."""
    WAITING_FOR_ENGINE = "waiting_for_engine"
    LEASING = "leasing"
    """A lease call is open and nothing else is in work."""
    LOADING_WEIGHTS = "loading_weights"
    GENERATING = "generating"
    REPORTING = "reporting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class RolloutStatus(Response):
    """Answer of `GET /v1/status`."""

    phase: Phase
    detail: str
    """The same in a few words, for people."""
    worker: str
    run_id: str | None
    engine: str | None
    model: str | None
    policy_version: int
    """Of the weights that the engine serves."""
    parity_gap: float | None
    """Of the last load, in nats; null before the first."""
    weights_load_s: float | None
    batches_in_flight: int
    groups_generating: int
    groups_reporting: int
    tokens_per_s: float = Field(description="Completion tokens, over the last 30 s.")
    num_tokens: int
    num_rollouts: int
    deliveries: dict[str, int]
    """Groups by what became of their reports."""
    finish_reasons: dict[str, int]
    last_reward: float | None
    """Mean reward of the last group."""
    last_success: float | None
    """Success rate of the last group."""
    last_components: dict[str, float]
    """Mean reward components of the last group."""
    last_error: str | None
    seconds: dict[str, float]
    """Time spent so far: `generate` and `report` are wall time with a group in the making (scoring
    included) or on its way, for groups are worked on side by side; `score` and `load` add up."""
    uptime_s: float


@dataclass(slots=True)
class WorkerStatus:
    """The live state behind `RolloutStatus`."""

    worker: str
    phase: Phase = Phase.STARTING
    """Of the worker as a whole; what the batches do comes first while they do something."""
    run_id: str | None = None
    engine: str | None = None
    model: str | None = None
    policy_version: int = 0
    parity_gap: float | None = None
    weights_load_s: float | None = None
    batches_in_flight: int = 0
    batches_loading: int = 0
    groups_generating: int = 0
    groups_reporting: int = 0
    num_tokens: int = 0
    num_rollouts: int = 0
    deliveries: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    last_reward: float | None = None
    last_success: float | None = None
    last_components: dict[str, float] = field(default_factory=dict)
    last_error: str | None = None
    started_at_s: float = field(default_factory=time.monotonic)
    recent_tokens: deque[tuple[float, int]] = field(default_factory=deque)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Without the groups that are worked on now."""
    generating_since_s: float = 0.0
    """When the first of the groups that are being made now was begun."""
    reporting_since_s: float = 0.0
    """The same for the groups on their way."""

    def begin_group(self) -> None:
        """A group is being made."""
        if not self.groups_generating:
            self.generating_since_s = time.monotonic()
        self.groups_generating += 1

    def end_group(self) -> None:
        """A group is made, or given up."""
        self.groups_generating -= 1
        if not self.groups_generating:
            self.seconds["generate"] += time.monotonic() - self.generating_since_s

    def begin_report(self) -> None:
        """A group is on its way to the sampler."""
        if not self.groups_reporting:
            self.reporting_since_s = time.monotonic()
        self.groups_reporting += 1

    def end_report(self) -> None:
        """A group was delivered, or given up."""
        self.groups_reporting -= 1
        if not self.groups_reporting:
            self.seconds["report"] += time.monotonic() - self.reporting_since_s

    def seconds_so_far(self) -> dict[str, float]:
        """`seconds` with the running time of what is worked on now."""
        now = time.monotonic()
        found = {name: self.seconds[name] for name in ("generate", "score", "report", "load")}
        if self.groups_generating:
            found["generate"] += now - self.generating_since_s
        if self.groups_reporting:
            found["report"] += now - self.reporting_since_s
        return found

    def count_group(self, outcomes: list[Outcome]) -> None:
        """Take in the outcomes of one generated group."""
        num_tokens = sum(outcome.num_tokens for outcome in outcomes)
        self.num_tokens += num_tokens
        self.num_rollouts += len(outcomes)
        self.finish_reasons.update(outcome.finish_reason.value for outcome in outcomes)
        self.recent_tokens.append((time.monotonic(), num_tokens))
        valid = [outcome for outcome in outcomes if outcome.finish_reason.is_valid]
        if not valid:
            return
        self.last_reward = sum(outcome.reward for outcome in valid) / len(valid)
        self.last_success = sum(outcome.success for outcome in valid) / len(valid)
        self.last_components = {
            name: sum(outcome.components[name] for outcome in valid) / len(valid)
            for name in valid[0].components
        }

    def tokens_per_s(self) -> float:
        """Completion tokens of the last window, per second."""
        now = time.monotonic()
        while self.recent_tokens and self.recent_tokens[0][0] < now - TOKEN_WINDOW_S:
            self.recent_tokens.popleft()
        window_s = max(1.0, min(TOKEN_WINDOW_S, now - self.started_at_s))
        return sum(num for _, num in self.recent_tokens) / window_s

    def current_phase(self) -> Phase:
        """The phase, looking into the batches while the worker is at work."""
        if self.phase in (Phase.STOPPED, Phase.FAILED, Phase.STARTING):
            return self.phase
        if self.batches_loading:
            return Phase.LOADING_WEIGHTS
        if self.groups_generating:
            return Phase.GENERATING
        if self.groups_reporting:
            return Phase.REPORTING
        return self.phase

    def snapshot(self) -> RolloutStatus:
        """The state now, as it is answered."""
        phase = self.current_phase()
        return RolloutStatus(
            phase=phase,
            detail=self._detail(phase),
            worker=self.worker,
            run_id=self.run_id,
            engine=self.engine,
            model=self.model,
            policy_version=self.policy_version,
            parity_gap=self.parity_gap,
            weights_load_s=self.weights_load_s,
            batches_in_flight=self.batches_in_flight,
            groups_generating=self.groups_generating,
            groups_reporting=self.groups_reporting,
            tokens_per_s=self.tokens_per_s(),
            num_tokens=self.num_tokens,
            num_rollouts=self.num_rollouts,
            deliveries=dict(self.deliveries),
            finish_reasons=dict(self.finish_reasons),
            last_reward=self.last_reward,
            last_success=self.last_success,
            last_components=self.last_components,
            last_error=self.last_error,
            seconds=self.seconds_so_far(),
            uptime_s=time.monotonic() - self.started_at_s,
        )

    def _detail(self, phase: Phase) -> str:
        match phase:
            case Phase.STARTING:
                return "loading the model"
            case Phase.LEASING:
                return "waiting for tasks"
            case Phase.LOADING_WEIGHTS:
                return f"loading weights newer than version {self.policy_version}"
            case Phase.GENERATING:
                return f"generating {self.groups_generating} groups, v{self.policy_version}"
            case Phase.REPORTING:
                return f"reporting {self.groups_reporting} groups"
            case Phase.FAILED | Phase.WAITING_FOR_RUN | Phase.WAITING_FOR_ENGINE:
                return f"{phase.value.replace('_', ' ')}: {self.last_error or 'not there yet'}"
            case _:
                return phase.value
