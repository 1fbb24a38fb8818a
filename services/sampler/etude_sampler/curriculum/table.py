"""The table of parts: the built-ins by name, then those of installed packages.

Names only, never import paths: run configs arrive over HTTP. An installed package adds a part by
an entry point of group `etude.curriculum_parts` that loads a config class of `parts`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TypeVar

from .allocators.dump import DumpConfig
from .allocators.fixed import FixedConfig
from .allocators.joint import JointConfig
from .allocators.ladder import LadderConfig
from .allocators.sec import SecConfig
from .allocators.tdcl import TdclConfig
from .allocators.tscl import TsclConfig
from .budgets.cures import CuresBudgetConfig
from .budgets.group_size import GroupSizeConfig
from .budgets.knapsack import KnapsackConfig
from .budgets.speed import SpeedConfig
from .gates.dapo import DapoConfig
from .gates.none import NoneConfig
from .gates.success_band import SuccessBandGateConfig
from .gates.vcrl import VcrlConfig
from .gates.zero_variance import ZeroVarianceConfig
from .hard.multi_round import MultiRoundConfig
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
from .pools.adarft import AdarftConfig
from .pools.mopps import MoppsConfig
from .pools.pcl import PclConfig
from .pools.plr import PlrConfig
from .scaffolds.hints import HintsConfig
from .scaffolds.noise_docs import NoiseDocsConfig
from .scaffolds.prefix import PrefixConfig
from .scaffolds.reflect import ReflectConfig
from .scaffolds.self_example import SelfExampleConfig
from .weighers.arcus import ArcusConfig
from .weighers.cures import CuresConfig
from .weighers.etude import EtudeConfig
from .weighers.greso import GresoConfig
from .weighers.kimi import KimiConfig
from .weighers.late_learned import LateLearnedConfig
from .weighers.learnability import LearnabilityConfig
from .weighers.mixed_group import MixedGroupConfig
from .weighers.rds import RdsConfig
from .weighers.rds_scalar import RdsScalarConfig
from .weighers.success_band import SuccessBandConfig
from .weighers.uniform import UniformWeigherConfig

ConfigT = TypeVar("ConfigT", bound=PartConfig)

GROUP = "etude.curriculum_parts"
"""Entry-point group of installed parts."""

BUILT_IN: tuple[type[PartConfig], ...] = (
    UniformWeigherConfig,
    RdsConfig,
    RdsScalarConfig,
    MixedGroupConfig,
    LearnabilityConfig,
    SuccessBandConfig,
    KimiConfig,
    CuresConfig,
    ArcusConfig,
    GresoConfig,
    LateLearnedConfig,
    EtudeConfig,
    FixedConfig,
    TdclConfig,
    JointConfig,
    DumpConfig,
    SecConfig,
    TsclConfig,
    LadderConfig,
    NoneConfig,
    ZeroVarianceConfig,
    SuccessBandGateConfig,
    DapoConfig,
    VcrlConfig,
    GroupSizeConfig,
    CuresBudgetConfig,
    KnapsackConfig,
    SpeedConfig,
    MoppsConfig,
    PlrConfig,
    PclConfig,
    AdarftConfig,
    MultiRoundConfig,
    HintsConfig,
    PrefixConfig,
    ReflectConfig,
    NoiseDocsConfig,
    SelfExampleConfig,
)
"""Parts that come with the sampler."""


@functools.cache
def part_table() -> PartTable:
    """Built-in and installed parts; read once a process (`part_table.cache_clear()` re-reads)."""
    return make_table([*BUILT_IN, *installed_parts()])


def installed_parts() -> list[type[PartConfig]]:
    """Config classes that installed packages offer, by entry-point name.

    Raises:
        TypeError: an entry point loads something that is no part's config class.
    """
    found: list[type[PartConfig]] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        part = entry.load()
        if not (isinstance(part, type) and issubclass(part, PartConfig)):
            raise TypeError(f"entry point {entry.name!r} of {GROUP} is no PartConfig class")
        found.append(part)
    return found


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
