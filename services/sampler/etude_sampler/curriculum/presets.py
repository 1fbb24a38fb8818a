"""Presets: named choices of the parts of a curriculum (algorithms.md 3.7).

Neighbours: `resolve` fills a run's config from them; the parts are named in `table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pydantic import JsonValue

from etude_proto.v1.curriculum import LanesBy

Knobs = Mapping[str, JsonValue]
_NO_KNOBS: Knobs = MappingProxyType({})

COMPONENTS = ("format", "tool_name", "param_name", "param_value")
"""ToolRL's reward components, in lane order (section 3.1)."""
CHAIN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "tool_name": ("format",),
        "param_name": ("tool_name",),
        "param_value": ("param_name",),
    }
)
"""format -> tool_name -> param_name -> param_value (section 3.1)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A part by name, with knobs that differ from its defaults."""

    name: str
    knobs: Knobs = field(default_factory=lambda: _NO_KNOBS)


@dataclass(frozen=True, slots=True)
class Preset:
    """One choice of each part."""

    summary: str
    """One line for `etude strategies`."""
    weigher: Choice
    allocator: Choice
    gate: Choice = field(default_factory=lambda: Choice("zero_variance"))
    control_share: float = 0.1
    prerequisites: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: CHAIN)
    lanes_by: LanesBy = "subtasks"
    budget: Choice | None = None
    """None: the group size for every task."""
    pool: Choice | None = None
    """None: every drawn task is kept."""
    hard: Choice | None = None
    """None: tasks that never succeed are tasks like any other."""
    scaffold: Choice | None = None
    """None: bare prompts only."""


_RDS, _UNIFORM = Choice("rds"), Choice("uniform")
_TDCL, _FIXED = Choice("tdcl"), Choice("fixed")
_TRACK_ONLY = Choice("tdcl", {"adapt": False})
_JOINT = Choice("joint")
FLOOR = 0.05
"""Share of lane `uniform` under the presets of whole tasks (section 5, our choice)."""


def _whole_tasks(
    summary: str, weigher: str, *, gate: str = "zero_variance", budget: str | None = None
) -> Preset:
    """One race of all tasks, by one weight a task."""
    return Preset(
        summary,
        Choice(weigher),
        _JOINT,
        gate=Choice(gate),
        control_share=FLOOR,
        budget=None if budget is None else Choice(budget),
    )


def _over_lanes(summary: str, allocator: str, *, lanes_by: LanesBy = "source") -> Preset:
    """Lanes compete for the slots; tasks in a lane are alike."""
    return Preset(summary, _UNIFORM, Choice(allocator), control_share=FLOOR, lanes_by=lanes_by)


def _uniform_draws(summary: str, gate: str, *, budget: str | None = None) -> Preset:
    """Uniform draws; only the gate, and the budget if there is one, choose."""
    return Preset(
        summary,
        _UNIFORM,
        _FIXED,
        gate=Choice(gate),
        control_share=1.0,
        budget=None if budget is None else Choice(budget),
    )


def _pooled(summary: str, pool: str) -> Preset:
    """Candidates from lane `uniform`, the best of them kept; a few slots stay uniform."""
    return Preset(summary, _UNIFORM, _FIXED, control_share=FLOOR, pool=Choice(pool))


def _rescued(summary: str, scaffold: str) -> Preset:
    """Uniform draws; groups without a success get help."""
    return Preset(summary, _UNIFORM, _FIXED, control_share=1.0, scaffold=Choice(scaffold))


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "uniform": Preset(
            "every waiting task alike; mastery is tracked, nothing acts on it",
            weigher=_UNIFORM,
            allocator=_FIXED,
            control_share=1.0,
        ),
        "dscl": Preset(
            "reward-based weights (RDS) and mastery-based slots (TDCL)",
            weigher=_RDS,
            allocator=_TDCL,
        ),
        "dscl_rds_only": Preset(
            "ablation of dscl: weights move, slots and component weights do not",
            weigher=_RDS,
            allocator=_TRACK_ONLY,
        ),
        "dscl_tdcl_only": Preset(
            "ablation of dscl: slots and component weights move, task weights are 1",
            weigher=_UNIFORM,
            allocator=_TDCL,
        ),
        "dscl_scalar": Preset(
            "ablation of dscl: weights from the scalar reward instead of its components",
            weigher=Choice("rds_scalar"),
            allocator=_TDCL,
        ),
        "dscl_no_prerequisites": Preset(
            "ablation of dscl: no prerequisites between sub-tasks",
            weigher=_RDS,
            allocator=_TDCL,
            prerequisites=MappingProxyType({}),
        ),
        "dscl_no_iota": Preset(
            "ablation of dscl: mastery from all groups alike, without importance",
            weigher=_RDS,
            allocator=Choice("tdcl", {"iota": False}),
        ),
        "gate_only": Preset(
            "ablation: uniform draws, and only the zero-variance gate",
            weigher=_UNIFORM,
            allocator=_FIXED,
            control_share=1.0,
        ),
        "ungated": Preset(
            "ablation: uniform draws without any gate",
            weigher=_UNIFORM,
            allocator=_FIXED,
            gate=Choice("none"),
            control_share=1.0,
        ),
        "etude": _whole_tasks(
            "tasks by predicted signal times gain, unseen ones too (ours)", "etude"
        ),
        "mixed_group": _whole_tasks(
            "tasks by the probability that a group has some right and some wrong (ours)",
            "mixed_group",
        ),
        "learnability": _whole_tasks(
            "tasks by expected p (1 - p) (SFL, LILO; posterior form ours)", "learnability"
        ),
        "success_band": _whole_tasks(
            "tasks and groups with success in [.2, .8] (design input: 2504.03380)",
            "success_band",
            gate="success_band",
        ),
        "kimi": _whole_tasks("tasks by their failure rate (Kimi k1.5)", "kimi"),
        "cures": _whole_tasks(
            "tasks by exp(sqrt(p (1 - p)) / tau), rollouts by sqrt(p (1 - p)) (CurES)",
            "cures",
            budget="cures",
        ),
        "arcus": _whole_tasks("tasks near even odds by an arcsine belief (ARCUS)", "arcus"),
        "greso": _whole_tasks("tasks that were all right or all wrong run slower (GRESO)", "greso"),
        "late_learned": _whole_tasks(
            "mixed_group, doubled for what was learned late (idea of 2602.00576)", "late_learned"
        ),
        "dump": _over_lanes(
            "sources by advantage and a bonus for seldom drawn ones (DUMP)", "dump"
        ),
        "sec": _over_lanes("sources by a moving average of advantage (design input: SEC)", "sec"),
        "tscl": _over_lanes("the source whose success changes fastest (TSCL)", "tscl"),
        "ladder": _over_lanes(
            "levels of an offline pass rate, easy to hard (design input: Observe-R1)",
            "ladder",
            lanes_by="level",
        ),
        "vcrl": Preset(
            "uniform draws, groups of high variance, a bank of them replayed (design input: VCRL)",
            weigher=_UNIFORM,
            allocator=_FIXED,
            gate=Choice("vcrl", MappingProxyType({"kappa_later": 0.8})),
            control_share=1.0,
        ),
        "learnability_fresh": _uniform_draws(
            "uniform draws, the best quarter of the groups by p (1 - p) (score: SFL, LILO)",
            "learnability",
        ),
        "dapo": _uniform_draws("uniform draws, groups with 0 < m < G (DAPO)", "dapo"),
        "speed": _uniform_draws(
            "uniform draws, 4 rollouts, 20 more where some are right, some wrong (SPEED)",
            "dapo",
            budget="speed",
        ),
        "knapsack": _uniform_draws(
            "uniform draws, rollouts where they are worth most (Knapsack RL)",
            "zero_variance",
            budget="knapsack",
        ),
        "mopps": _pooled(
            "the best of a pool by a drawn success rate near one half (MoPPS)", "mopps"
        ),
        "plr": _pooled("the best of a pool by last signal and staleness (PLR)", "plr"),
        "pcl": _pooled("the best of a pool by predicted success (design input: PCL)", "pcl"),
        "adarft": _pooled(
            "the best of a pool by distance to a target difficulty (AdaRFT)", "adarft"
        ),
        "scaf_grpo": _rescued(
            "uniform draws; after a group without success, the least hint that helps (Scaf-GRPO)",
            "hints",
        ),
        "ghpo": _rescued(
            "uniform draws; after a group without success, a prefix of the solution (GHPO)",
            "prefix",
        ),
        "toolexpander": Preset(
            "hard tasks get demonstrations, in rounds; examples of its own (ToolExpander)",
            weigher=_UNIFORM,
            allocator=_JOINT,
            scaffold=Choice("self_example"),
            hard=Choice("multi_round"),
        ),
    }
)
"""All presets by name."""
