"""Curriculum configuration: a preset, or parts by name. Names only, never import paths.

A part's knobs are validated by the sampler's registry when a run is created; a wrong one is named
in the problem document (`/curriculum/weigher/knobs/eps`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from .base import Json, Name, Request, Response, SubtaskName

LanesBy = Literal["subtasks", "source", "level"]
"""What the component lanes of a run are: sub-tasks; sources of tasks; or levels of difficulty by
`metadata.pass_rate`, where `level_0` was always solved and `level_8` never. A lane of a source or
level is scored by success."""


class Part(Request):
    """One choice of one part of a curriculum."""

    name: Name
    """Name in the sampler's table of parts (`etude strategies`)."""
    knobs: dict[str, Json] = Field(default_factory=dict)
    """Constants of the part; those not given keep their documented defaults."""


class CurriculumConfig(Request):
    """Which curriculum a run follows. Parts given here replace the preset's."""

    preset: Name = "dscl"
    """A preset by name; `etude strategies` lists them."""
    weigher: Part | None = None
    """Statistics -> weight of a task in a lane."""
    allocator: Part | None = None
    """Mastery -> slots per lane."""
    gate: Part | None = None
    """May a finished group be trained on."""
    pool: Part | None = None
    """Lease more tasks than asked for and keep the best; default: the preset's, or none."""
    budget: Part | None = None
    """Rollouts of each task of a prompt batch; default: the preset's, or the group size."""
    hard: Part | None = None
    """What becomes of tasks that never succeed; default: the preset's, or nothing."""
    scaffold: Part | None = None
    """Help in prompts, or after a failure; default: the preset's, or none."""
    lanes_by: LanesBy | None = None
    """What a lane is; default: the preset's, most of which have sub-tasks."""
    subtasks: list[SubtaskName] | None = Field(default=None, max_length=32)
    """Component lanes in order; default: the preset's, or those that the dataset names."""
    prerequisites: dict[SubtaskName, list[SubtaskName]] | None = None
    """Directed acyclic graph: sub-task -> sub-tasks that should be mastered first."""
    control_share: float | None = Field(default=None, ge=0.01, le=1.0)
    """Share of slots drawn uniformly: the floor and the control arm (default: the preset's)."""


class ResolvedPart(Response):
    """A part with every knob filled in."""

    name: str
    knobs: dict[str, JsonValue]


class ResolvedCurriculum(Response):
    """What a run really uses, after the preset's defaults."""

    preset: str
    weigher: ResolvedPart
    allocator: ResolvedPart
    gate: ResolvedPart
    pool: ResolvedPart | None = None
    """None: every leased task is kept."""
    budget: ResolvedPart | None = None
    """None: the group size for every task."""
    scaffold: ResolvedPart | None = None
    """None: bare prompts only."""
    hard: ResolvedPart | None = None
    """None: tasks that never succeed are tasks like any other."""
    subtasks: list[str]
    """Component lanes in order: sub-tasks, sources or levels, as `lanes_by` says."""
    prerequisites: dict[str, list[str]]
    control_share: float
    lanes_by: LanesBy = "subtasks"
    features: list[str] = Field(default_factory=list)
    """Features of tasks that the parts read, in order; empty if they read none."""
    sources: list[str] = Field(default_factory=list)
    """Sources by which the feature `source` counts; empty without features."""
    lanes: list[str]
    """Lane order: `uniform` first, then the component lanes, then `hard` and `probe` if there is
    a part `hard`."""
