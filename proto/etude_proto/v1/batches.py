"""Prompt batches and leases: what a rollout worker takes, keeps alive and gives back."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from .base import Fence, Id, Name, Request, Response, Version
from .credit import CreditSpec
from .demonstrations import Demonstration
from .runs import RewardSpec
from .scaffolds import Ladder, Scaffold, SelfExample
from .tasks import Task


class DegradedReason(StrEnum):
    """Why a batch is shorter than asked for. Never an error."""

    NOTHING_WAITING = "nothing_waiting"
    """Every task of the run is leased or parked."""
    QUEUE_FULL = "queue_full"
    """Ready groups plus leased tasks reached the run's cap."""
    RUN_PAUSED = "run_paused"
    WORKER_LIMIT = "worker_limit"
    """This worker holds as many leases as the run allows."""
    NOT_READY = "not_ready"
    """Too few groups were ready within `wait_s`."""
    REFILL_EXHAUSTED = "refill_exhausted"
    """The refill limit was reached: what was informative is served, however little."""


class Arm(StrEnum):
    """Which slots a task was drawn from."""

    CONTROL = "control"
    """Lane `uniform`."""
    CURRICULUM = "curriculum"


class PromptBatchRequest(Request):
    """Draw and lease tasks."""

    num_tasks: int = Field(ge=1, le=4096)
    worker: Name
    """Name of the worker; its live leases are limited."""
    wait_s: float = Field(default=0.0, ge=0.0, le=30.0)
    """Long poll: wait so long for a slot before answering with an empty batch."""
    ttl_s: float | None = Field(default=None, ge=0.2, le=3600.0)
    """Time to live between heartbeats; default: the run's."""


class Lease(Response):
    """A time-bound, exclusive claim. The fence, not the clock of the caller, decides."""

    id: Id
    run_id: Id
    fence: Fence
    deadline_ms: int
    """Unix time by the Redis server's clock."""
    ttl_s: float


class Screen(Response):
    """A first phase: only if it shows some success and some failure, the others are made."""

    num_rollouts: int = Field(ge=2)
    """Rollouts of the first phase; they count among the task's."""


class PromptItem(Response):
    """One task of a prompt batch, with the decision that chose it."""

    task: Task
    num_rollouts: int
    """Rollouts to make of this task, the run's group size unless its budget says otherwise."""
    screen: Screen | None = None
    """Make these first. If all or none of those that are valid succeed, stop, and report them
    alone: the group counts, and is not trained on."""
    train: bool = True
    """False for a probe: its outcomes count, no trajectories are wanted."""
    scaffold: Scaffold
    ladder: Ladder | None = None
    """What to do if the group fails."""
    self_example: SelfExample | None = None
    """Ask for examples in the thought; the group stays un-scaffolded."""
    demonstrations: list[Demonstration] = Field(default_factory=list)
    """For scaffold `few_shot`: best first. Show as many as its level says, fewer if they are too
    long, and report the level shown; without any, level 0 of kind `none`."""
    lane: str
    """The lane whose slot this task took."""
    arm: Arm
    weight: float
    """The task's weight in that lane."""
    slot_probability: float
    """Probability of one slot at lease time, over all lanes (algorithms.md 3.2)."""
    entry: int
    """Number of the task's stay in the lanes that this draw ended."""


class PromptBatch(Response):
    """Leased tasks; `lease` is null when `items` is empty."""

    lease: Lease | None
    items: list[PromptItem]
    degraded: bool
    degraded_reason: DegradedReason | None
    policy_version: Version
    weights_uri: str | None
    """Model weights to load before generating."""
    component_weights: dict[str, float]
    """w of the reward; one group, one w."""
    reward: RewardSpec
    credit: CreditSpec = CreditSpec()
    wants_completions: bool = False
    """Whether reports should carry the text of one right completion a group: the run's curriculum
    makes demonstrations of them."""


class ExtendRequest(Request):
    """Heartbeat of a lease."""

    fence: Fence
    ttl_s: float | None = Field(default=None, ge=0.2, le=7200.0)


class ReleaseRequest(Request):
    """Give back what has not been reported."""

    fence: Fence


class Released(Response):
    """What a release gave back."""

    lease_id: Id
    num_released: int
