"""Gate `vcrl`: keep groups whose variance of success is large against the largest possible.

Attributed to VCRL (2509.19803) by others (section 5), with kappa .3 for 20 steps and .8 after them:
the preset's. Slots that it leaves empty are filled from a bank of groups trained on before
(`curriculum.banking`; form of the priority ours).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.banking import BankRule
from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.parts import Context, Gate, GateConfig
from etude_sampler.statistics import Bools, Floats, GroupSummary, Ints

BANK_GROUPS = 256
"""Groups of a bank unless asked otherwise (our choice); bytes are bounded by the run's limits."""


def relative_variance(num_success_N: Ints, num_valid_N: Ints) -> Floats:
    """`[m (G - m) / (G (G - 1))] / vmax`, in [0, 1]; 0 for fewer than two rollouts.

    vmax is the same for m = floor(G / 2): `G / (4 (G - 1))` for even G, `(G + 1) / (4 G)` for odd.
    """
    size_N = np.maximum(num_valid_N, 2)
    largest_N = (size_N // 2) * (size_N - size_N // 2)
    product_N = num_success_N * (num_valid_N - num_success_N)
    return np.where(num_valid_N >= 2, product_N / largest_N, 0.0)


@dataclass(frozen=True, slots=True)
class VcrlGate:
    """Admits groups with `x >= kappa`."""

    kappa: float
    kappa_later: float
    later_from: int
    rule: BankRule | None = None

    def at_version(self, version: int) -> VcrlGate:
        """The gate at a policy version: with kappa, or from `later_from` on with the later one."""
        return replace(self, kappa=self.kappa_later) if version >= self.later_from else self

    def admit(self, summary: GroupSummary) -> Bools:
        """[N]: whether the relative variance of success reaches kappa."""
        return np.asarray(self.values(summary) >= self.kappa, dtype=np.bool_)

    def bank(self) -> BankRule | None:
        """How the bank keeps groups; None without one."""
        return self.rule

    def values(self, summary: GroupSummary) -> Floats:
        """[N] relative variance of success."""
        return relative_variance(summary.num_success_N, summary.num_valid_N)


class VcrlConfig(GateConfig):
    """Admit a group if its variance of success is at least kappa of the largest; a replay bank."""

    name: ClassVar[str] = "vcrl"
    paper: ClassVar[str] = "design input: VCRL 2509.19803; form of the bank's priority ours"

    kappa: float = Field(default=0.3, gt=0.0, le=1.0)
    """Share of the largest variance that a group must reach."""
    kappa_later: float | None = Field(default=None, gt=0.0, le=1.0)
    """The same from policy version `later_from` on; default: as before."""
    later_from: int = Field(default=20, ge=0, le=1_000_000)
    """Policy version at which `kappa_later` begins."""

    bank_groups: int | None = Field(default=None, ge=0, le=4096)
    """Most trained groups kept for replay in slots that the gate leaves empty; 0: no bank. Default:
    256 where groups come with trajectories, else 0."""
    bank_momentum: float = Field(default=0.9, ge=0.0, le=1.0)
    """What a banked task's priority keeps of itself when another of its groups is reported."""
    bank_replays: int = Field(default=2, ge=1, le=100)
    """Most times that a group is replayed."""

    def filled(self, context: Context) -> Self:
        """With the size of the bank written out; raises `KnobFault`: nothing to replay."""
        if self.bank_groups is None:
            size = BANK_GROUPS if context.keeps_tokens else 0
            return self.model_copy(update={"bank_groups": size})
        if self.bank_groups and not context.keeps_tokens:
            raise KnobFault(
                ("bank_groups",),
                "reports of a curriculum-only run carry no trajectories to replay; "
                "leave it out, or 0",
            )
        return self

    def build(self, context: Context) -> Gate:
        """The gate; without a bank in runs that were stored before there was one."""
        later = self.kappa if self.kappa_later is None else self.kappa_later
        rule = None
        if self.bank_groups:
            rule = BankRule(self.bank_groups, self.bank_momentum, self.bank_replays)
        return VcrlGate(self.kappa, later, self.later_from, rule)
