"""The table of parts: the built-ins by name, then those of installed packages.

A built-in part is one file and one line here. Run configs, which arrive over HTTP, give names of
parts and never of files. `installed` finds what packages add.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TypeVar

from .installed import Unusable, broken_part, installed_parts
from .parts import (
    AllocatorConfig,
    BudgetConfig,
    GateConfig,
    HardConfig,
    PartConfig,
    PartTable,
    PoolConfig,
    ScaffoldConfig,
    WeigherConfig,
)

ConfigT = TypeVar("ConfigT", bound=PartConfig)

_MODULES = (
    "weighers.uniform",
    "weighers.rds",
    "weighers.rds_scalar",
    "weighers.mixed_group",
    "weighers.learnability",
    "weighers.success_band",
    "weighers.kimi",
    "weighers.cures",
    "weighers.arcus",
    "weighers.greso",
    "weighers.late_learned",
    "weighers.etude",
    "allocators.fixed",
    "allocators.tdcl",
    "allocators.joint",
    "allocators.dump",
    "allocators.sec",
    "allocators.tscl",
    "allocators.ladder",
    "gates.none",
    "gates.zero_variance",
    "gates.success_band",
    "gates.dapo",
    "gates.vcrl",
    "gates.learnability",
    "budgets.group_size",
    "budgets.cures",
    "budgets.knapsack",
    "budgets.speed",
    "pools.mopps",
    "pools.plr",
    "pools.pcl",
    "pools.adarft",
    "hard.multi_round",
    "scaffolds.hints",
    "scaffolds.prefix",
    "scaffolds.reflect",
    "scaffolds.noise_docs",
    "scaffolds.self_example",
)
"""The table: the file of each part that comes with the sampler, below this package, in order."""


def _part_of(module: str) -> type[PartConfig]:
    """The one config class that a part's file defines."""
    found = import_module(f".{module}", __package__)
    (part,) = (
        one
        for one in vars(found).values()
        if isinstance(one, type)
        and issubclass(one, PartConfig)
        and one.__module__ == found.__name__
        and "name" in vars(one)
    )
    return part


BUILT_IN: tuple[type[PartConfig], ...] = tuple(_part_of(module) for module in _MODULES)
"""Parts that come with the sampler."""


@functools.cache
def part_table() -> PartTable:
    """Built-in and installed parts; read once a process (`part_table.cache_clear()` re-reads).

    A name that is taken stays with the built-in part, or else with the first package by name.
    """
    parts = list(BUILT_IN)
    found, broken = installed_parts()
    for entry, part in found:
        try:
            make_table([*parts, part])
        except ValueError as error:
            broken.append(broken_part(entry, Unusable(str(error))))
        else:
            parts.append(part)
    return replace(make_table(parts), broken=tuple(broken))


def make_table(parts: Iterable[type[PartConfig]]) -> PartTable:
    """The table of `parts`.

    Raises:
        TypeError: a class is no config of a known kind of part.
        ValueError: two parts of a kind have one name.
    """
    weighers: dict[str, type[WeigherConfig]] = {}
    allocators: dict[str, type[AllocatorConfig]] = {}
    gates: dict[str, type[GateConfig]] = {}
    budgets: dict[str, type[BudgetConfig]] = {}
    pools: dict[str, type[PoolConfig]] = {}
    hards: dict[str, type[HardConfig]] = {}
    scaffolds: dict[str, type[ScaffoldConfig]] = {}
    for part in parts:
        if issubclass(part, WeigherConfig):
            _add(weighers, part)
        elif issubclass(part, AllocatorConfig):
            _add(allocators, part)
        elif issubclass(part, GateConfig):
            _add(gates, part)
        elif issubclass(part, BudgetConfig):
            _add(budgets, part)
        elif issubclass(part, PoolConfig):
            _add(pools, part)
        elif issubclass(part, HardConfig):
            _add(hards, part)
        elif issubclass(part, ScaffoldConfig):
            _add(scaffolds, part)
        else:
            raise TypeError(f"{part.__qualname__} is no config of a weigher, allocator, gate, ...")
    return PartTable(
        weighers=weighers,
        allocators=allocators,
        gates=gates,
        budgets=budgets,
        pools=pools,
        hards=hards,
        scaffolds=scaffolds,
    )


def _add(kind: dict[str, type[ConfigT]], part: type[ConfigT]) -> None:
    if part.name in kind:
        raise ValueError(f"two parts are named {part.name!r}")
    kind[part.name] = part


@dataclass(frozen=True, slots=True)
class KnobDescription:
    """One knob of a part, for people."""

    name: str
    default: str
    summary: str


@dataclass(frozen=True, slots=True)
class PartDescription:
    """One part of the table, for `etude strategies` and the generated reference."""

    kind: str
    name: str
    summary: str
    paper: str
    state: str
    knobs: tuple[KnobDescription, ...]


def describe(table: PartTable) -> list[PartDescription]:
    """The table for people: every part with its knobs and their defaults."""
    kinds = (
        ("weigher", table.weighers),
        ("allocator", table.allocators),
        ("gate", table.gates),
        ("budget", table.budgets),
        ("pool", table.pools),
        ("hard", table.hards),
        ("scaffold", table.scaffolds),
    )
    return [
        PartDescription(
            kind=kind,
            name=name,
            summary=(part.__doc__ or "").partition("\n")[0],
            paper=part.paper,
            state=part.state,
            knobs=tuple(
                KnobDescription(
                    name=knob,
                    default=str(field.get_default(call_default_factory=True)),
                    summary=" ".join((field.description or "").split()),
                )
                for knob, field in part.model_fields.items()
            ),
        )
        for kind, parts in kinds
        for name, part in parts.items()
    ]
