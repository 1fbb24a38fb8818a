"""A run's history as lines: few points, however many versions. `views` has the single versions."""

from __future__ import annotations

from .base import Id, Response, Version


class Line(Response):
    """One quantity, a value a point; null where a point has nothing to say."""

    name: str
    values: list[float | None]
    low: list[float | None] | None = None
    """Lower end of the band; which band, the field that holds the line says."""
    high: list[float | None] | None = None


class Series(Response):
    """`GET /v1/runs/{id}/series`: every version is in exactly one point, none is left out."""

    run_id: Id
    policy_version: Version
    num_versions: int
    every: int
    """Versions that a point stands for; points begin at multiples of it, so they stay as they are
    while versions are added."""
    versions: list[Version]
    """The last version of each point, ascending."""
    num_groups: list[int]
    num_tokens: list[int]
    """Sampled tokens of each point."""
    mastery: list[Line]
    """By sub-task; band: 95 % interval of the point's last version that has one."""
    reward: Line
    """Of a group; band of this and the next lines: least and greatest of the point's versions."""
    success: Line
    informative: Line
    components: list[Line]
    lane_groups: list[Line]
    """Share of the point's groups that took a slot of each lane."""
    lane_shares: list[Line]
    """Share of the slots that each lane was to get."""
    arms: list[Line]
    """`control.success_rate`, `curriculum.informative_share` and so on, over the point's versions,
    or over the 20 up to its end if it has fewer; band: 95 % interval."""
    figures: list[str]
    """Names of the trainer's figures."""
    figure: Line | None = None
    """The one that was asked for."""
