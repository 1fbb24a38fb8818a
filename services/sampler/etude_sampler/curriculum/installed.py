"""Parts from installed packages: found by entry point, tried once, never trusted.

A package that cannot be used is described instead of raised: a sampler starts with whatever else is
installed beside it. Neighbours: `table` merges what is found, `parts` has the interfaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from types import MappingProxyType

import numpy as np
from pydantic import ValidationError

from etude_sampler.statistics import TaskStatistics, empty, fresh_values, layout

from .allotment import Budget
from .faults import ConfigFault, KnobFault
from .features import feature_names
from .hard.sampling import HardSampling
from .parts import (
    Allocator,
    AllocatorConfig,
    BrokenPart,
    BudgetConfig,
    Context,
    Gate,
    GateConfig,
    HardConfig,
    PartConfig,
    Pool,
    PoolConfig,
    ScaffoldConfig,
    Weigher,
    WeigherConfig,
)
from .scaffolding import Scaffolding

GROUP = "etude.curriculum_parts"
"""Entry-point group of installed parts."""
KINDS: Mapping[type[PartConfig], type] = MappingProxyType(
    {
        WeigherConfig: Weigher,
        AllocatorConfig: Allocator,
        GateConfig: Gate,
        BudgetConfig: Budget,
        PoolConfig: Pool,
        HardConfig: HardSampling,
        ScaffoldConfig: Scaffolding,
    }
)
"""Kinds of parts: the base of their configs, and what `build` must answer."""
_SUBTASKS = ("format", "tool_name")


class Unusable(TypeError):
    """An installed part that does not keep to the interface of its kind."""


def installed_parts() -> tuple[list[tuple[EntryPoint, type[PartConfig]]], list[BrokenPart]]:
    """Config classes that installed packages offer, and the entry points that give none."""
    found: list[tuple[EntryPoint, type[PartConfig]]] = []
    broken: list[BrokenPart] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda one: (package_of(one), one.name)):
        try:
            found.append((entry, usable(entry.load())))
        except (Exception, SystemExit) as error:  # whatever a stranger's module does when imported
            broken.append(broken_part(entry, error))
    return found, broken


def package_of(entry: EntryPoint) -> str:
    """Name of the distribution that brings an entry point."""
    return "?" if entry.dist is None else entry.dist.name


def broken_part(entry: EntryPoint, error: BaseException) -> BrokenPart:
    """An entry point and why it cannot be used."""
    text = " ".join(str(error).split()) or "no message"
    detail = text if isinstance(error, Unusable) else f"{type(error).__name__}: {text}"
    return BrokenPart(entry.name, package_of(entry), detail)


def usable(loaded: object) -> type[PartConfig]:
    """The config class that an entry point loaded, tried with its defaults on a run of two lanes.

    Raises:
        Unusable: it is no config of a part, or lacks what parts of its kind must have.
        Exception: whatever it raises itself.
    """
    kinds = [kind for kind in KINDS if isinstance(loaded, type) and issubclass(loaded, kind)]
    if not (isinstance(loaded, type) and issubclass(loaded, PartConfig) and kinds):
        raise Unusable(f"{loaded!r} is no config class of a weigher, allocator, gate, ...")
    if not isinstance(getattr(loaded, "name", None), str):
        raise Unusable(f"{loaded.__qualname__} has no `name`")
    if isabstract(loaded):
        missing = ", ".join(sorted(loaded.__abstractmethods__))
        raise Unusable(f"{loaded.__qualname__} lacks {missing}")
    try:
        config = loaded()
    except ValidationError as error:
        knob = ".".join(map(str, error.errors()[0]["loc"]))
        raise Unusable(f"knob {knob!r} has no valid default") from error
    _try_out(config, KINDS[kinds[0]])
    return loaded


def _try_out(config: PartConfig, interface: type) -> None:
    """Build the part as a run would, and look at what comes back."""
    context = Context(
        subtasks=_SUBTASKS,
        control_share=0.1,
        prerequisites={"format": (), "tool_name": ("format",)},
        features=tuple(feature_names(0)),
        sources=("a source",),
    )
    try:
        config = config.filled(context)
        notes = config.remembers(context)
        context = replace(context, notes=layout(notes))
        part: object = config.build(context)  # type: ignore[attr-defined]  # every kind has it
    except (ConfigFault, KnobFault):
        return  # the defaults need another run than this one, and say so
    wanted = [name for name in vars(interface) if not name.startswith("_")]
    if missing := [name for name in wanted if not hasattr(part, name)]:
        raise Unusable(f"build() gives {type(part).__qualname__} without {', '.join(missing)}")
    if isinstance(config, WeigherConfig) and not config.reads_features:
        _weigh(config.build(context), empty(2, len(_SUBTASKS), fresh_values(notes)))


def _weigh(weigher: Weigher, stats: TaskStatistics) -> None:
    """Two unseen tasks, one in both lanes and one in the first."""
    active_NK = np.array([[True, True], [True, False]])
    weights_NK = weigher.weights(stats, active_NK, version=0)
    if np.shape(weights_NK) != active_NK.shape:
        raise Unusable(f"weights() gives shape {np.shape(weights_NK)} instead of (tasks, lanes)")
    is_right_NK = np.where(active_NK, weights_NK > 0, weights_NK == 0) & np.isfinite(weights_NK)
    if not is_right_NK.all():
        raise Unusable("weights() gives other than positive numbers in a task's lanes, 0 elsewhere")
    said: object = weigher.explain(stats.select(np.array([0])), 0, 0)
    if not isinstance(said, str):
        raise Unusable(f"explain() gives {type(said).__qualname__} instead of str")
