"""What a run is doing now: its ready queue, its leases, its workers, its pace."""

from __future__ import annotations

from typing import Literal

from .base import Id, Response, Version


class ReadyAge(Response):
    """Ready groups of one age."""

    staleness: int
    """Versions since the oldest of their tokens; the greatest stands for all that are older."""
    num_groups: int


class LeaseView(Response):
    """A live lease."""

    id: Id
    kind: Literal["prompt", "training"]
    worker: str | None
    """Who leased a prompt batch; null for training batches."""
    policy_version: Version
    """The version that went out with it."""
    num_left: int
    """Tasks not yet reported, or groups."""
    ttl_ms: int
    remaining_ms: int
    """Until its deadline, by the Redis server's clock; below 0: it is about to be given back."""
    is_extended: bool
    """Whether a heartbeat has come."""


class WorkerView(Response):
    """A worker that holds prompt leases."""

    worker: str
    num_leases: int
    num_left: int
    """Tasks of its leases that are shown, not yet reported."""
    policy_version: Version | None
    """The newest version that went out to it; null if none of its leases is shown."""


class DecisionTotals(Response):
    """What the newest decisions were."""

    num_decisions: int
    since_ms: int | None
    """Time of the oldest of them, in ms since 1970; null without any."""
    until_ms: int | None
    num_draws: int
    num_reports: int
    num_releases: int
    num_expiries: int


class Activity(Response):
    """`GET /v1/runs/{id}/activity`."""

    run_id: Id
    policy_version: Version
    cap_groups: int
    max_staleness: int
    ready: list[ReadyAge]
    """Ages that occur or may occur, youngest first."""
    leases: list[LeaseView]
    """At most 200 of each kind, those that end first."""
    num_leases: int
    workers: list[WorkerView]
    """At most 200, by name."""
    num_workers: int
    decisions: DecisionTotals
    """The newest 2,000 at most, as far as PostgreSQL has them."""
    version_times: list[str]
    """When the newest 20 versions were announced, oldest first."""
