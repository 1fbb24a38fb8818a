"""What a run must be after a sequence of calls: a model in plain Python, without any server.

It knows what was drawn, acknowledged, committed and lost, and keeps the groups that count in the
order of their commits. Statistics and mastery are then a pure function of them
(`workload_model.recompute`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from etude_proto.v1 import Attempt, PromptBatch, Report
from etude_sampler.service.outcomes import Columns

from .workload_model import Group, Outcomes

MAX_LAG = 8
"""Versions after which outcomes are stored, not applied (`EstimatorConstants`)."""


@dataclass(slots=True)
class Held:
    """A prompt lease that was given out."""

    batch: PromptBatch
    key: str
    worker: str
    num_tasks: int
    num_waiting: int
    inside: set[int]
    """Ordinals that have not come back."""
    live: bool = True

    @property
    def id(self) -> str:
        """The lease's id."""
        assert self.batch.lease is not None
        return self.batch.lease.id

    @property
    def fence(self) -> int:
        """Its fence."""
        assert self.batch.lease is not None
        return self.batch.lease.fence


@dataclass(slots=True)
class Sent:
    """A report that was sent at least once."""

    held: Held
    report: Report
    ordinals: list[int]
    key: str
    cargo: bytes | None
    committed: bool = False
    receipt: bytes | None = None
    """As acknowledged; None until it was."""


@dataclass(slots=True)
class Taken:
    """A training lease that was given out."""

    lease_id: str
    fence: int
    groups: dict[str, tuple[int, int]]
    """Group id -> its place in the ready queue."""
    live: bool = True
    key: str | None = None
    """Of the ack that was sent."""
    version: int = 0
    committed: bool = False
    receipt: bytes | None = None


@dataclass(slots=True)
class RunModel:
    """One run."""

    num_tasks: int
    cap: int
    max_staleness: int
    waiting: set[int] = field(default_factory=set)
    leases: list[Held] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    fences: list[int] = field(default_factory=list)
    ready: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Group id -> (oldest version, order of commit)."""
    groups: list[Group] = field(default_factory=list)
    """Applied attempts in the order of their commits."""
    boundaries: list[int] = field(default_factory=list)
    """For each version the last commit before it."""
    rows: dict[tuple[str, int, str, int, int], str] = field(default_factory=dict)
    """(lease, ordinal, kind, level, number) -> verdict: the ledger."""
    orders: dict[tuple[str, int], int] = field(default_factory=dict)
    """(lease, ordinal) -> order of the commit of its last attempt."""
    announced: int = 0
    """The version that Redis serves."""
    trainer_fence: int = 0
    epoch: int = 1
    unsettled_weights: bool = False
    """A version was made whose ageing weights may not all be moved yet."""
    lost_log: set[int] = field(default_factory=set)
    """Epochs whose last decisions went with Redis."""

    def __post_init__(self) -> None:
        """Everyone waits."""
        self.waiting = set(range(self.num_tasks))

    @property
    def version(self) -> int:
        """The version in PostgreSQL."""
        return len(self.boundaries)

    @property
    def num_commits(self) -> int:
        """Attempts committed so far; their order."""
        return len(self.rows)

    def live(self) -> list[Held]:
        """Prompt leases that hold tasks."""
        return [held for held in self.leases if held.live]

    def training(self) -> list[Taken]:
        """Training leases that are held."""
        return [taken for taken in self.taken if taken.live]

    def room(self) -> int:
        """Tasks that may be leased now."""
        leased = sum(len(held.inside) for held in self.live())
        return self.cap - leased - len(self.ready)

    def drawn(self, held: Held) -> None:
        """A lease was given out."""
        self.leases.append(held)
        self.fences.append(held.fence)
        self.waiting -= held.inside

    def commit(self, sent: Sent) -> None:
        """A report's transaction."""
        sent.committed = True
        for ordinal, one in zip(sent.ordinals, sent.report.groups, strict=True):
            for attempt in one.attempts:
                self._attempt(sent, ordinal, attempt)

    def _attempt(self, sent: Sent, ordinal: int, attempt: Attempt) -> None:
        held = sent.held
        version = held.batch.policy_version
        num_valid = sum(o.finish_reason.is_valid for o in attempt.outcomes)
        verdict = "applied"
        if num_valid < 2:
            verdict = "invalid"
        elif self.version - version > MAX_LAG:
            verdict = "stale"
        kind, level = attempt.scaffold_kind, attempt.scaffold_level
        self.rows[held.id, ordinal, kind, level, attempt.number] = verdict
        self.orders[held.id, ordinal] = self.num_commits
        if verdict != "applied":
            return
        item = next(item for item in held.batch.items if item.task.ordinal == ordinal)
        (text,) = Columns.of([attempt], version=0).compact()
        outcomes: Outcomes = orjson.loads(text)
        lanes = ["uniform", *held_lanes(held), "pool"]
        self.groups.append(
            Group(
                self.num_commits,
                (ordinal, kind, level),
                lanes.index(item.lane),
                item.slot_probability,
                held.num_waiting,
                outcomes,
            )
        )

    def late(self, sent: Sent) -> None:
        """A report that came too late: kept, unless the same attempt is there."""
        for ordinal, one in zip(sent.ordinals, sent.report.groups, strict=True):
            for a in one.attempts:
                key = (sent.held.id, ordinal, a.scaffold_kind, a.scaffold_level, a.number)
                self.rows.setdefault(key, "late")

    def settle(self, sent: Sent, admitted: set[int]) -> None:
        """A report's tasks come back; admitted groups with trajectories become ready."""
        back = sent.held.inside & set(sent.ordinals)
        for ordinal in back & admitted:
            order = self.orders[sent.held.id, ordinal]
            self.ready[f"{sent.held.id}:{ordinal}"] = (sent.held.batch.policy_version, order)
        self.back(sent.held, back)

    def back(self, held: Held, ordinals: set[int]) -> None:
        """Tasks leave a lease."""
        held.inside -= ordinals
        self.waiting |= ordinals
        held.live = bool(held.inside)

    def take(self, taken: Taken) -> None:
        """A training lease was given out."""
        self.taken.append(taken)
        self.fences.append(taken.fence)

    def oldest_ready(self, num: int) -> list[str]:
        """What a trainer is given next."""
        return sorted(self.ready, key=self.ready.__getitem__)[:num]

    def give_back(self, taken: Taken) -> None:
        """A training lease ends without an ack; what is too stale by now is dropped."""
        oldest = self.announced - self.max_staleness
        self.ready |= {name: at for name, at in taken.groups.items() if at[0] >= oldest}
        taken.live = False

    def fold(self, *, fence: int | None = None) -> None:
        """A version is made of all that was committed since the last one."""
        self.boundaries.append(self.num_commits)
        self.trainer_fence = self.trainer_fence if fence is None else fence

    def announce(self) -> None:
        """Redis learns of the newest version; groups too stale for it are purged."""
        if self.announced == self.version:
            return
        self.announced = self.version
        oldest = self.version - self.max_staleness
        self.ready = {name: at for name, at in self.ready.items() if at[0] >= oldest}

    def rebuilt(self, epoch: int) -> None:
        """A new epoch: no lease and no group lives on."""
        assert epoch > self.epoch
        self.epoch = epoch
        for held in self.live():
            self.back(held, set(held.inside))
        for taken in self.taken:
            taken.live = False
        self.ready = {}
        self.announced = self.version
        self.unsettled_weights = False


def held_lanes(held: Held) -> list[str]:
    """Component lanes, in lane order."""
    return list(held.batch.component_weights)
