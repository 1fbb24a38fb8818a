"""Runs: a dataset, a curriculum, a group size, a seed and limits."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from .base import Id, Name, Request, Response, Text, Version
from .credit import CreditSpec
from .curriculum import CurriculumConfig, ResolvedCurriculum
from .marks import ForkedFrom
from .rebuilds import LoadProgress, Rebuild
from .retention import Retention


class RunMode(StrEnum):
    """Who trains."""

    TRAINING = "training"
    """Reports carry tokens; an Etude trainer leases training batches."""
    CURRICULUM_ONLY = "curriculum_only"
    """The user's framework trains; reports are outcomes only."""


class RunStatus(StrEnum):
    """State of a run."""

    ACTIVE = "active"
    PAUSED = "paused"


REWARD_SWITCHES = (
    "CORRECTMAX1",
    "MAX1STEP30MAX3",
    "SCHEDULEREWARD",
    "WITHLENGTH",
    "SCHEDULELENGTH",
    "REFINEDREWARD",
    "INTERMEDIATEREWARD",
    "COARSEREWARD",
    "STRICTMATCH",
)
"""ToolRL's variant switches (algorithms.md 2.3)."""
WHOLE_REWARD_SWITCHES = ("INTERMEDIATEREWARD", "COARSEREWARD")
"""Those that score calls as a whole, so that weights of components cannot act in the reward."""


class RewardSpec(Request):
    """How the rollout service scores a completion (algorithms.md, section 2)."""

    kind: Literal["toolrl"] = "toolrl"
    mode: Literal["parity", "robust"] = "robust"
    switches: list[Text] = Field(default_factory=list, max_length=16)
    """ToolRL's variant switches, by name."""


class RunLimits(Request):
    """Bounds of a run; checked against each other when the run is created."""

    training_batch_groups: int = Field(default=8, ge=1, le=4096)
    """B: groups per training batch."""
    cap_groups: int | None = Field(default=None, ge=1, le=65536)
    """Most tasks leased plus groups ready at a time, at least 2 B; default `max(4 B, 64)`, in
    training runs at most `B max_staleness`: what waits longer is purged untrained."""
    max_staleness: int = Field(default=4, ge=0, le=1024)
    """A ready group whose oldest token is more than this many versions old is purged."""
    lease_ttl_s: float = Field(default=60.0, ge=0.2, le=3600.0)
    """Default time to live of a prompt batch's lease, between heartbeats."""
    training_lease_ttl_s: float = Field(default=120.0, ge=0.2, le=7200.0)
    max_batch_tasks: int = Field(default=256, ge=1, le=4096)
    """Most tasks in one prompt batch."""
    leases_per_worker: int = Field(default=16, ge=1, le=1024)
    """Most live prompt leases that one worker name may hold."""
    cargo_bytes: int = Field(default=1 << 30, ge=1 << 16, le=1 << 42)
    """Budget of trajectory bytes held in Redis."""
    max_group_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 30)
    """Largest trajectory body of one group."""
    max_group_rollouts: int = Field(default=128, ge=2, le=1024)
    """Most rollouts that a budget may allot to one task of a batch."""
    refill_over_draw: float = Field(default=1.5, ge=1.0, le=8.0)
    """Groups drawn per group needed (algorithms.md 3.3)."""
    refill_rounds: int = Field(default=3, ge=0, le=20)
    """Refill draws after the first, before a short training batch is served."""

    checkpoint_every_versions: int = Field(default=0, ge=0, le=1_000_000)
    """Take a curriculum checkpoint with every so many policy versions; 0: only on request."""
    checkpoint_keep_last: int = Field(default=8, ge=1, le=1000)
    """Newest curriculum checkpoints that are kept; pinned ones are kept besides."""
    checkpoint_keep_every: int = Field(default=0, ge=0, le=1_000_000)
    """Keep also those whose policy version is a multiple of this; 0: none."""

    retention: Retention = Retention()
    """How long what the run leaves behind is kept."""

    @property
    def cap(self) -> int:
        """The effective cap on leased tasks plus ready groups."""
        if self.cap_groups is not None:
            return self.cap_groups
        return max(4 * self.training_batch_groups, 64)

    def cap_in(self, mode: RunMode) -> int:
        """The effective cap of a run of this mode.

        The last of `cap` groups is trained on `cap / B` versions after it was drawn. A default
        that held more than `B max_staleness` would generate groups to purge them (our choice).
        """
        if self.cap_groups is not None or mode is RunMode.CURRICULUM_ONLY:
            return self.cap
        fresh = self.training_batch_groups * self.max_staleness
        return min(self.cap, max(fresh, 2 * self.training_batch_groups))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.cap < 2 * self.training_batch_groups:
            raise ValueError(
                "cap_groups must hold two training batches (>= 2 training_batch_groups)"
            )
        if self.cargo_bytes < 2 * self.training_batch_groups * self.max_group_bytes:
            raise ValueError(
                "cargo_bytes must hold two training batches "
                "(>= 2 training_batch_groups * max_group_bytes)"
            )
        longest = max(self.lease_ttl_s, self.training_lease_ttl_s)
        receipts_s = self.retention.receipts_s
        if receipts_s is not None and receipts_s < 10 * longest:
            raise ValueError(
                "retention.receipts_s must outlive the retries of a lease "
                "(>= 10 times the longer of lease_ttl_s and training_lease_ttl_s)"
            )
        every, keep = self.checkpoint_every_versions, self.checkpoint_keep_every
        if every and keep % every:
            raise ValueError(
                "checkpoint_keep_every must be a multiple of checkpoint_every_versions: "
                "no other version has a checkpoint to keep"
            )
        return self


class RunCreate(Request):
    """A new run."""

    name: Name
    dataset_id: Id
    curriculum: CurriculumConfig = CurriculumConfig()
    mode: RunMode = RunMode.TRAINING
    group_size: int = Field(default=8, ge=2, le=1024)
    """G: rollouts per task."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    reward: RewardSpec = RewardSpec()
    credit: CreditSpec = CreditSpec()
    limits: RunLimits = RunLimits()
    sources: list[Text] | None = Field(default=None, min_length=1, max_length=256)
    """Draw only tasks of these sources; default all."""
    weights_uri: Text | None = None
    """Model weights of policy version 0, if workers should load them."""


def _without_defaults(schema: dict[str, JsonValue]) -> None:
    """Defaults are those of new runs; in a change, what is not given stays as it is."""
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for field in properties.values():
        assert isinstance(field, dict)
        field.pop("default", None)


class RetentionUpdate(Retention):
    """Retention to change; what is not given stays as it is, null means never."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)


class LimitsUpdate(RunLimits):
    """Limits to change; what is not given stays as it is. Checked together with what stays."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    retention: RetentionUpdate = RetentionUpdate()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        return self

    def applied_to(self, limits: RunLimits) -> RunLimits:
        """A run's limits with the change.

        Raises:
            ValueError: they contradict each other.
        """
        old, change = (one.model_dump(exclude_unset=True) for one in (limits, self))
        merged = old | change
        if "retention" in change:
            merged["retention"] = old.get("retention", {}) | change["retention"]
        return RunLimits.model_validate(merged)


class RunUpdate(Request):
    """Fields of a run that may change while it is active (`PATCH`, with `If-Match`)."""

    name: Name | None = None
    limits: LimitsUpdate | None = None


class Run(Response):
    """A run as stored."""

    id: Id
    name: str
    dataset_id: Id
    status: RunStatus
    mode: RunMode
    curriculum: CurriculumConfig
    resolved: ResolvedCurriculum
    group_size: int
    seed: int
    reward: RewardSpec
    credit: CreditSpec = CreditSpec()
    limits: RunLimits
    sources: list[str] | None
    num_tasks: int
    """Tasks that can be drawn."""
    policy_version: Version
    weights_uri: str | None
    epoch: int
    """Raised whenever Redis had to be rebuilt; the high part of every fence."""
    revision: int
    """Changes with every `PATCH`; the `ETag`."""
    last_rebuild: Rebuild | None = None
    """The newest time that the run's hot state was loaded from PostgreSQL."""
    loading: LoadProgress | None = None
    """Set while the hot state is being loaded, or waits for it (`GET` of one run only)."""
    created_at: str
    forked_from: ForkedFrom | None = None
    """The checkpoint that the run began from, if it is a fork."""


class RunPage(Response):
    """`GET /v1/runs`."""

    items: list[Run]
    next_cursor: str | None
