"""Views: what the curriculum knows and did. Reading never changes anything."""

from __future__ import annotations

from pydantic import Field

from .arms import ArmsView
from .base import Id, Response, Version
from .batches import Arm
from .rebuilds import LoadProgress
from .tasks import Task


class SubtaskView(Response):
    """Mastery of one sub-task and what the allocator makes of it."""

    name: str
    mastery: float | None
    """Estimated mean of the component over the run's tasks, which slots follow; null before the
    first fold."""
    standard_error: float | None
    """Of the last version's estimate, from the spread of the groups' differences."""
    mastery_now: float | None = None
    """The same without the lag of an average; null before the first fold, and in runs of a release
    without it."""
    now_error: float | None = None
    """Its standard error."""
    threshold: float
    prerequisite_factor: float
    deficit: float
    component_weight: float
    num_tasks: int
    """Tasks of the run that exercise it."""
    num_tasks_seen: int


class LaneView(Response):
    """One lane: its race and its share of the slots."""

    name: str
    share: float
    num_waiting: int
    total_weight: float
    clock: float
    credit: float


class ArmView(Response):
    """Groups of one arm so far, scaffolded ones too; with intervals: `ArmsView`."""

    arm: Arm
    num_groups: int
    num_informative: int
    """Groups whose rule reward varied."""
    informative_share: float | None
    mean_reward: float | None
    num_tokens: int


class Counts(Response):
    """Conservation: waiting + leased + parked = tasks."""

    num_tasks: int
    num_waiting: int
    num_leased: int
    num_parked: int
    num_ready_groups: int
    num_training_groups: int
    """Groups in live training batches."""
    cargo_bytes: int
    num_prompt_leases: int
    num_training_leases: int
    num_groups_drawn: int
    """Since the last training batch."""
    num_expired: int
    """Tasks whose lease ran out, so far."""
    num_purged: int
    """Ready groups dropped as too stale, so far."""
    num_evicted: int
    """Ready groups dropped because limits were lowered, so far."""


class HardView(Response):
    """Hard sampling now: how far its round is, and the tasks that never succeed."""

    round: int
    """Rounds that have ended."""
    num_groups: int
    """Groups folded in this round; it ends with as many as the run has tasks."""
    num_hard: int
    """Tasks practised with demonstrations."""
    num_parked: int
    """Tasks that nothing helped so far; tried again some rounds later."""
    num_due: int
    """Tasks of which a probe is to tell whether they are hard."""


class BankView(Response):
    """Groups that were trained on and may be replayed where the gate leaves slots empty."""

    num_groups: int
    """In the bank now; lost with the hot state, and filled again by the batches after."""
    max_groups: int
    num_replayed: int
    """Groups trained on again, so far; each has its own line in the ledger."""


class CurriculumView(Response):
    """`GET /v1/runs/{id}/curriculum`: the state of the curriculum now."""

    run_id: Id
    policy_version: Version
    subtasks: list[SubtaskView]
    lanes: list[LaneView]
    arms: list[ArmView]
    counts: Counts
    num_groups_applied: int
    num_groups_late: int
    parked_share: float
    loading: LoadProgress | None = None
    """Set while the run's hot state is being loaded, or waits for it: all tasks are parked then."""
    arms_recent: ArmsView | None = None
    """Both arms over the newest versions (`window`), and what is not folded yet."""
    arms_overall: ArmsView | None = None
    """Both arms since the run began, or since it was upgraded from a release without them."""
    hard: HardView | None = None
    """As of the newest version; null if the run has no part `hard`."""
    bank: BankView | None = None
    """Null if the run's gate keeps no bank."""


class HistoryPoint(Response):
    """One policy version: what was folded when it was announced."""

    policy_version: Version
    created_at: str
    weights_uri: str | None
    num_groups: int
    """Groups applied since the version before."""
    num_informative: int
    mean_reward: float | None
    mean_components: dict[str, float]
    success_rate: float | None
    mastery: dict[str, float]
    mastery_now: dict[str, float] | None = None
    """Without the lag of an average; null in versions of a release without it."""
    mastery_error: dict[str, float] | None = None
    """Standard error of `mastery`; null in versions of a release without it."""
    component_weights: dict[str, float]
    lane_shares: dict[str, float]
    lane_groups: dict[str, int]
    """Applied groups by the lane whose slot they took."""
    num_tokens: int
    num_rollouts: int | None = None
    """Valid rollouts of these groups, scaffolded ones too; null in versions of an older release."""
    num_groups_replayed: int | None = None
    """Groups of this version's batch that came from the bank; null in a run without one."""
    metrics: dict[str, float]
    """Scalars from the trainer's ack."""
    arms: ArmsView | None = None
    """Both arms of this version alone; null in versions of a release without them."""


class HistoryPage(Response):
    """`GET /v1/runs/{id}/history`."""

    items: list[HistoryPoint]
    next_cursor: str | None


class TaskStatistics(Response):
    """Statistics of a task at one scaffold level (algorithms.md 1.1 and 3.2)."""

    scaffold_kind: str
    scaffold_level: int
    num_groups: int
    num_successes: float = Field(description="Decayed count of successes, s.")
    num_failures: float = Field(description="Decayed count of failures, f.")
    success_ema: float
    streak_easy: int
    streak_hard: int
    mean_abs_advantage: float
    component_means: dict[str, float]
    component_variances: dict[str, float]
    reward_mean: float
    reward_variance: float
    full_visits: int
    last_policy_version: Version


class TaskSummary(Response):
    """One line of the task explorer."""

    id: Id
    ordinal: int
    source: str
    subtasks: list[str]
    statistics: TaskStatistics | None
    """Un-scaffolded; null when never seen."""
    gain: float | None = None
    """In order `improved`: rise of its components' moving averages, their mean, over the newest
    groups of the run."""


class TaskPage(Response):
    """`GET /v1/runs/{id}/tasks`."""

    items: list[TaskSummary]
    next_cursor: str | None
    """Set as long as there may be more: a page may hold few items, or none, before the end."""
    num_looked_at: int | None = None
    """Tasks looked at for this page; a call looks at a bounded number of them."""


class WeightTerm(Response):
    """One term of a lane weight, so that a person can add it up."""

    lane: str
    weight: float
    in_lane: bool
    explanation: str
    """For example `eps 0.02 + u 0.7071 + stale 0.025`."""


class LedgerEntry(Response):
    """One group of the ledger."""

    apply_seq: int
    lease_id: Id
    scaffold_kind: str
    scaffold_level: int
    number: int
    verdict: str
    policy_version: Version
    lane: str
    created_at: str
    rewards: list[float]
    successes: list[bool]
    components: dict[str, list[float]]
    finish_reasons: list[str]
    engine: str | None = None
    """What generated, with its precision, as the report said: `vllm-0.32/bf16`."""


class TaskView(Response):
    """`GET /v1/runs/{id}/tasks/{task_id}`: why a task has its weight."""

    task: Task
    state: str
    """`waiting`, `leased` or `parked`."""
    hard: str | None = None
    """What hard sampling makes of it, in words; null if the run has no part `hard`."""
    statistics: list[TaskStatistics]
    weights: list[WeightTerm]
    prediction: float | None
    recent: list[LedgerEntry]
    """The last groups, newest first."""
    budget: str | None = None
    """What the task's number of rollouts depends on; null where all get the group size."""
    pool: str | None = None
    """What the run's pool values the task by, in words; null without a pool."""
