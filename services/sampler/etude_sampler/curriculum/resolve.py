"""From a run's curriculum config to the curriculum that it follows.

`resolve` validates and fills in every default, once, when the run is created; `build` makes the
parts from the stored result. Neighbours: `presets`, `table`; the service calls both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from etude_proto.v1.curriculum import CurriculumConfig, LanesBy, ResolvedCurriculum
from etude_sampler.statistics import EstimatorConstants, Note, Shape, fresh_values, layout

from .allotment import Budget
from .asking import LANE_OF, lanes_by, notes_of_parts
from .faults import KnobFault
from .features import feature_names
from .hard.lanes import beside_hard, with_hard
from .hard.sampling import HardSampling
from .naming import (
    built,
    checked,
    choose,
    configured,
    fault,
    listed,
    named,
    optional,
    resolved_part,
)
from .parts import (
    GROUP_SIZE,
    Allocator,
    Context,
    Gate,
    HardConfig,
    Pool,
    PoolConfig,
    ScaffoldConfig,
    Weigher,
)
from .pooling import FORMER, beside_pool, lane_names
from .prerequisites import ancestors, find_cycle, restrict
from .presets import COMPONENTS, PRESETS, Preset
from .scaffolding import Scaffolding
from .table import part_table

UNIFORM = "uniform"
"""Name of lane 0: every waiting task at weight 1, the floor and the control arm."""
MAX_SUBTASKS = 32
"""Most component lanes of a run."""


@dataclass(frozen=True, slots=True)
class Curriculum:
    """The parts that a run follows, ready to use; immutable."""

    weigher: Weigher
    allocator: Allocator
    gate: Gate
    estimator: EstimatorConstants
    subtasks: tuple[str, ...]
    """Component lanes, in order."""
    lanes: tuple[str, ...]
    """`uniform`, then the component lanes."""
    lanes_by: LanesBy = "subtasks"
    """What the component lanes are."""
    notes: tuple[Note, ...] = ()
    """What the parts remember of each task, in the order of `TaskStatistics.x_NE`."""
    features: tuple[str, ...] = ()
    """Features of tasks that the weigher reads; empty: none."""
    sources: tuple[str, ...] = ()
    """Sources by index, for the feature `source`."""
    budget: Budget | None = None
    """None: the group size for every task."""
    pool: Pool | None = None
    """None: every drawn task is kept."""
    hard: HardSampling | None = None
    """None: tasks that never succeed are tasks like any other."""
    scaffold: Scaffolding | None = None
    """None: bare prompts only."""
    control_share: float = 1.0
    """Share of the control arm; of a pooled batch's kept tasks, if there is a pool."""

    @property
    def lane_names(self) -> tuple[str, ...]:
        """Names of the lanes that a drawn task may bear, by number."""
        return lane_names(self.lanes, pooled=self.pool is not None)

    def lane_name(self, lane: int) -> str:
        """The lane that a ledger row names by number; a fork's may be its origin's alone."""
        return self.lane_names[lane] if lane < len(self.lane_names) else FORMER

    @property
    def shape(self) -> Shape:
        """How wide the statistics of a task are."""
        return Shape(len(self.subtasks), fresh_values(self.notes))


def resolve(
    config: CurriculumConfig,
    *,
    dataset_subtasks: Sequence[str],
    sources: Sequence[str] = (),
    num_given: int = 0,
    group_size: int = GROUP_SIZE,
    keeps_tokens: bool = True,
) -> ResolvedCurriculum:
    """Fill in and check a run's curriculum.

    Args:
        config: as the client sent it.
        dataset_subtasks: sub-tasks that the run's tasks exercise, each once, in stable order; or
            their sources, or levels, if `lanes_by` says so.
        sources: the run's sources, for features.
        num_given: features that users gave with each of the run's tasks.
        group_size: the run's.
        keeps_tokens: whether its reports carry trajectories.

    Raises:
        ConfigFault: names the field; see the class.
    """
    preset = named(PRESETS, config.preset, where=("preset",), what="preset")
    kind = lanes_by(config)
    subtasks = _subtasks(config, list(dataset_subtasks), what=LANE_OF[kind])
    prerequisites = _prerequisites(config, preset, subtasks) if kind == "subtasks" else {}
    share = preset.control_share if config.control_share is None else config.control_share
    table = part_table()
    pool = optional(table.pools, config.pool, preset.pool, kind="pool")
    drawn_uniformly = share if pool is None else 1.0
    context = _context(subtasks, prerequisites, control_share=drawn_uniformly)
    budget = optional(table.budgets, config.budget, preset.budget, kind="budget")
    mean = group_size if budget is None else budget.mean(group_size)
    context = replace(context, group_size=mean, weighers=table.weighers, keeps_tokens=keeps_tokens)
    weigher = choose(table.weighers, config.weigher, preset.weigher, kind="weigher")
    allocator = choose(table.allocators, config.allocator, preset.allocator, kind="allocator")
    allocator = beside_pool(config, pool, allocator, subtasks, lanes_by=kind, weigher=weigher.name)
    gate = choose(table.gates, config.gate, preset.gate, kind="gate")
    hard = optional(table.hards, config.hard, preset.hard, kind="hard")
    scaffold = optional(table.scaffolds, config.scaffold, preset.scaffold, kind="scaffold")
    beside_hard(hard, subtasks, pool=pool)
    resolved = ResolvedCurriculum(
        preset=config.preset,
        weigher=resolved_part(weigher, context, kind="weigher"),
        allocator=resolved_part(allocator, context, kind="allocator"),
        gate=resolved_part(gate, context, kind="gate"),
        budget=None if budget is None else resolved_part(budget, context, kind="budget"),
        pool=None if pool is None else resolved_part(pool, context, kind="pool"),
        hard=None if hard is None else resolved_part(hard, context, kind="hard"),
        scaffold=None if scaffold is None else resolved_part(scaffold, context, kind="scaffold"),
        subtasks=subtasks,
        prerequisites=prerequisites,
        control_share=share,
        lanes_by=kind,
        features=feature_names(num_given) if weigher.reads_features else [],
        sources=list(sources) if weigher.reads_features else [],
        lanes=with_hard([UNIFORM, *subtasks], hard),
    )
    build(resolved)
    return resolved


def build(resolved: ResolvedCurriculum) -> Curriculum:
    """The parts of a resolved curriculum.

    Raises:
        ConfigFault: a part is not installed here, or a knob contradicts the run.
    """
    share = resolved.control_share if resolved.pool is None else 1.0
    context = _context(resolved.subtasks, resolved.prerequisites, control_share=share)
    table = part_table()
    context = replace(
        context,
        lanes_by=resolved.lanes_by,
        features=tuple(resolved.features),
        sources=tuple(resolved.sources),
        weighers=table.weighers,
    )
    notes = notes_of_parts(resolved, context)
    context = replace(context, notes=layout(notes))
    weigher = configured(table.weighers, resolved.weigher, kind="weigher")
    allocator = configured(table.allocators, resolved.allocator, kind="allocator")
    gate = configured(table.gates, resolved.gate, kind="gate")
    return Curriculum(
        weigher=checked(weigher.build, context, kind="weigher"),
        allocator=checked(allocator.build, context, kind="allocator"),
        gate=checked(gate.build, context, kind="gate"),
        estimator=EstimatorConstants(),
        subtasks=context.subtasks,
        lanes=tuple(with_hard([UNIFORM, *context.subtasks], resolved.hard)),
        lanes_by=resolved.lanes_by,
        notes=notes,
        features=context.features,
        sources=context.sources,
        budget=_budget(resolved, context),
        pool=built(table.pools, resolved.pool, _build_pool, context, kind="pool"),
        hard=built(table.hards, resolved.hard, _build_hard, context, kind="hard"),
        scaffold=built(
            *(table.scaffolds, resolved.scaffold, _build_scaffold, context), kind="scaffold"
        ),
        control_share=resolved.control_share,
    )


def _build_pool(config: PoolConfig, context: Context) -> Pool:
    return config.build(context)


def _build_hard(config: HardConfig, context: Context) -> HardSampling:
    return config.build(context)


def _build_scaffold(config: ScaffoldConfig, context: Context) -> Scaffolding:
    return config.build(context)


def _budget(resolved: ResolvedCurriculum, context: Context) -> Budget | None:
    """The budget; none for the group size, which needs no deciding."""
    if resolved.budget is None:
        return None
    config = configured(part_table().budgets, resolved.budget, kind="budget")
    if config.is_group_size:
        return None
    return checked(config.build, context, kind="budget")


def check_group_size(resolved: ResolvedCurriculum, group_size: int) -> None:
    """Whether a run of this group size can follow the curriculum.

    Raises:
        ConfigFault: naming the knob that contradicts it.
    """
    if resolved.budget is None:
        return
    config = configured(part_table().budgets, resolved.budget, kind="budget")
    try:
        config.fits(group_size)
    except KnobFault as error:
        raise fault(("budget", "knobs", *error.path), error.detail) from error


def _context(
    subtasks: Sequence[str],
    prerequisites: Mapping[str, Sequence[str]],
    *,
    control_share: float,
) -> Context:
    """What the parts may know: every sub-task with all its prerequisites, in lane order."""
    before = {name: ancestors(prerequisites, name) for name in subtasks}
    return Context(
        subtasks=tuple(subtasks),
        control_share=control_share,
        prerequisites={
            name: tuple(other for other in subtasks if other in before[name]) for name in subtasks
        },
    )


def _subtasks(config: CurriculumConfig, available: list[str], *, what: str) -> list[str]:
    """Component lanes: as configured, or ToolRL's that the tasks have, then their others."""
    if config.subtasks is None:
        known = [name for name in COMPONENTS if name in available]
        subtasks = known + [name for name in available if name not in COMPONENTS]
        if len(subtasks) > MAX_SUBTASKS:
            raise fault(
                ("subtasks",),
                f"the tasks name {len(subtasks)} {what}s; list the at most {MAX_SUBTASKS} to use",
            )
    else:
        subtasks = list(config.subtasks)
    for place, name in enumerate(subtasks):
        where = ("subtasks", place)
        if name == UNIFORM:
            raise fault(where, f"the lane name {UNIFORM!r} is reserved")
        if name in subtasks[:place]:
            raise fault(where, f"{name!r} is listed twice")
        if name not in available:
            raise fault(where, f"no task has the {what} {name!r}; known: {listed(available)}")
    return subtasks


def _prerequisites(
    config: CurriculumConfig, preset: Preset, subtasks: list[str]
) -> dict[str, list[str]]:
    """Direct prerequisites among the run's sub-tasks."""
    if config.prerequisites is None:
        return restrict(preset.prerequisites, subtasks)
    for name, links in config.prerequisites.items():
        if name not in subtasks:
            detail = f"{name!r} is no sub-task of this run: {listed(subtasks)}"
            raise fault(("prerequisites", name), detail)
        for place, before in enumerate(links):
            if before not in subtasks:
                detail = f"{before!r} is no sub-task of this run: {listed(subtasks)}"
                raise fault(("prerequisites", name, place), detail)
    if cycle := find_cycle(config.prerequisites):
        raise fault(("prerequisites", cycle[0]), f"a cycle: {' -> '.join(cycle)}")
    return {name: list(dict.fromkeys(links)) for name, links in config.prerequisites.items()}
