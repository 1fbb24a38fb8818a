"""How a run's tasks are spread: success, weights, visits; counted over a sample of them."""

from __future__ import annotations

from .base import Id, Response, Version


class Histogram(Response):
    """Tasks by the value of one quantity."""

    name: str
    edges: list[float]
    """Ascending, one more than counts; a bin holds its lower edge, the last both."""
    counts: list[int]


class Distributions(Response):
    """`GET /v1/runs/{id}/distributions`."""

    run_id: Id
    policy_version: Version
    num_tasks: int
    num_sampled: int
    """Tasks that were counted: all, or a fixed random sample of the run's."""
    num_seen: int
    """Of these, tasks with un-scaffolded statistics; only they have a success rate."""
    success: Histogram
    """Success rate, as an exponential moving average."""
    visits: Histogram
    """Groups applied; the last bin holds all above."""
    weights: list[Histogram]
    """Weight in each lane but `uniform`, of the tasks that stand in it; bins grow by a factor."""
