"""What the parts of a curriculum are: Protocols, their configs, and the table that names them.

One file a part lies in `weighers/`, `allocators/`, `gates/`, `budgets/`, `pools/`; `table` lists
the built-ins and merges installed ones. A config is a frozen, validated value that builds its part.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from etude_proto.v1.curriculum import LanesBy
from etude_sampler.statistics import Bools, Floats, GroupSummary, Note, TaskStatistics

from .allotment import Budget
from .candidates import Candidates
from .hard.sampling import HardSampling
from .scaffolding import Aid, Scaffolding
from .state import AllocatorState, FoldInput, SubtaskNumbers

GROUP_SIZE = 8
"""Group size of a run that names none."""


class Weigher(Protocol):
    """Statistics -> weight of a task in its lanes. Pure; holds knobs only."""

    @property
    def refresh_ages(self) -> tuple[int, ...]:
        """Ages in policy versions at which a weight changes without a report, ascending."""

    def weights(self, stats: TaskStatistics, active_NK: Bools, *, version: int) -> Floats:
        """Weights [N, K] at policy version `version`: 0 where inactive, positive elsewhere."""

    def explain(self, stats_row: TaskStatistics, k: int, version: int) -> str:
        """Why the one task of `stats_row` has its weight in component lane `k`, in one line."""


class Allocator(Protocol):
    """Mastery -> slots per lane. Pure; the state is passed in and out."""

    def initial(self, num_subtasks: int) -> AllocatorState:
        """State before the first fold."""

    def fold(self, state: AllocatorState, folded: FoldInput) -> AllocatorState:
        """State after the groups of one policy version."""

    def shares(self, state: AllocatorState) -> Floats:
        """Shares [1 + K] of the slots in lane order; they sum to 1."""

    def component_weights(self, state: AllocatorState) -> Floats:
        """Weights [K] of the reward components; they sum to K."""

    def view(self, state: AllocatorState) -> list[SubtaskNumbers]:
        """What is known of each sub-task, in lane order."""


class Gate(Protocol):
    """Whether a finished group may be trained on. Pure."""

    def admit(self, summary: GroupSummary) -> Bools:
        """[N] verdicts."""


class Pool(Protocol):
    """Which of the leased candidates are kept (L8). Pure; holds knobs only."""

    @property
    def factor(self) -> float:
        """Candidates per task asked for."""

    @property
    def reads(self) -> frozenset[str]:
        """What it reads beside statistics: of `prediction` and `pass_rate`."""

    def values(self, candidates: Candidates) -> Floats:
        """[N] values, the smallest are kept; equal ones fall to chance."""

    def explain(self, candidates: Candidates) -> str:
        """What the value of the one candidate follows from, in one line."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a part may know of the run when it is built."""

    subtasks: tuple[str, ...]
    """Component lanes, in order."""
    control_share: float
    """Share of the slots of lane `uniform`."""
    prerequisites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sub-task -> all sub-tasks that should be mastered first, direct and indirect."""
    lanes_by: LanesBy = "subtasks"
    """What the component lanes are; of sources and levels, q is success."""
    notes: Mapping[str, slice] = field(default_factory=dict)
    """Columns of `TaskStatistics.x_NE` by the name of a note."""
    features: tuple[str, ...] = ()
    """[F] features of tasks, if the weigher reads them (`reads_features`)."""
    sources: tuple[str, ...] = ()
    """Sources by their index, which is the feature `source`."""
    weighers: Mapping[str, type[WeigherConfig]] = field(default_factory=dict)
    """Weighers by name, for parts that change another weigher's weights."""
    group_size: int = GROUP_SIZE
    """Rollouts of a task, in the mean; the run's while its config is filled in, and only then."""
    keeps_tokens: bool = True
    """Whether reports carry trajectories; the run's while its config is filled in, only then."""


class PartConfig(BaseModel):
    """Knobs of a part. The first line of a class's docstring is its summary for users."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    name: ClassVar[str]
    """Name in the table of parts."""
    paper: ClassVar[str] = "ours"
    """Whose idea it is, for `etude strategies`; what is not named there is our choice."""
    state: ClassVar[str] = "-"
    """What it reads of a task's or the run's statistics, for `etude strategies`."""
    notes: ClassVar[tuple[Note, ...]] = ()
    """What it remembers of each task beyond the shared statistics."""
    reads_features: ClassVar[bool] = False
    """Whether the weigher it builds is `Seeing`."""

    def remembers(self, context: Context) -> tuple[Note, ...]:
        """The notes of this part in this run; a part whose notes depend on knobs overrides it."""
        return self.notes

    def filled(self, context: Context) -> Self:
        """The same config with every default that depends on the run written out."""
        return self


class WeigherConfig(PartConfig):
    """Base of the weighers' knobs."""

    @abstractmethod
    def build(self, context: Context) -> Weigher:
        """The weigher; raises `KnobFault` if a knob contradicts the run."""


class AllocatorConfig(PartConfig):
    """Base of the allocators' knobs."""

    @property
    def moves_weights(self) -> bool:
        """Whether component weights may become other than 1."""
        return False

    @abstractmethod
    def build(self, context: Context) -> Allocator:
        """The allocator; raises `KnobFault` if a knob contradicts the run."""


class GateConfig(PartConfig):
    """Base of the gates' knobs."""

    @abstractmethod
    def build(self, context: Context) -> Gate:
        """The gate; raises `KnobFault` if a knob contradicts the run."""


class PoolConfig(PartConfig):
    """Base of the pools' knobs."""

    factor: float = Field(default=4.0, ge=1.0, le=64.0)
    """Candidates leased per task asked for; a batch has at most 4096 candidates."""

    @abstractmethod
    def build(self, context: Context) -> Pool:
        """The pool; raises `KnobFault` if a knob contradicts the run."""


class BudgetConfig(PartConfig):
    """Base of the budgets' knobs."""

    is_group_size: ClassVar[bool] = False
    """Whether every task gets the group size, which needs no deciding."""

    @abstractmethod
    def build(self, context: Context) -> Budget:
        """The budget; raises `KnobFault` if a knob contradicts the run."""

    def fits(self, group_size: int) -> None:
        """Raise `KnobFault` if the knobs contradict the run's group size."""

    def mean(self, group_size: int) -> int:
        """Rollouts of a task in the mean: those that divide a batch's rollouts keep its mean."""
        return group_size


class HardConfig(PartConfig):
    """Base of the knobs of hard sampling."""

    @abstractmethod
    def build(self, context: Context) -> HardSampling:
        """The sampling; raises `KnobFault` if a knob contradicts another."""


class ScaffoldConfig(PartConfig):
    """Base of the scaffolds' knobs."""

    aid: ClassVar[Aid | None] = None
    """What tasks must bring along."""
    in_episodes: ClassVar[bool] = True
    """Whether its help stands in the first prompt, which is where episodes can be helped."""

    @property
    def takes_bare(self) -> bool:
        """Whether tasks without the aid are served bare; else a run with such tasks is refused."""
        return getattr(self, "missing", "bare") == "bare"

    @abstractmethod
    def build(self, context: Context) -> Scaffolding:
        """The scaffold; raises `KnobFault` if a knob contradicts another."""


@dataclass(frozen=True, slots=True)
class BrokenPart:
    """An entry point of an installed package that gave no part."""

    entry: str
    """Name of the entry point."""
    package: str
    """Distribution that brings it."""
    detail: str
    """Why it cannot be used, in one line."""


@dataclass(frozen=True, slots=True)
class PartTable:
    """The parts that a config may name, by kind and name."""

    weighers: Mapping[str, type[WeigherConfig]]
    allocators: Mapping[str, type[AllocatorConfig]]
    gates: Mapping[str, type[GateConfig]]
    budgets: Mapping[str, type[BudgetConfig]]
    pools: Mapping[str, type[PoolConfig]] = field(default_factory=dict)
    hards: Mapping[str, type[HardConfig]] = field(default_factory=dict)
    scaffolds: Mapping[str, type[ScaffoldConfig]] = field(default_factory=dict)
    broken: tuple[BrokenPart, ...] = ()
    """Entry points of installed packages that gave no part."""
