"""Gate `vcrl`: keep groups whose variance of success is large against the largest possible.

Attributed to VCRL (2509.19803) by others (section 5), with kappa .3 for 20 steps and .8 after them:
the preset's. Its bank of replayed groups is not here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.parts import Context, Gate, GateConfig
from etude_sampler.statistics import Bools, Floats, GroupSummary, Ints


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

    def at_version(self, version: int) -> VcrlGate:
        """The gate at a policy version: with kappa, or from `later_from` on with the later one."""
        return replace(self, kappa=self.kappa_later) if version >= self.later_from else self

    def admit(self, summary: GroupSummary) -> Bools:
        """[N]: whether the relative variance of success reaches kappa."""
        share_N = relative_variance(summary.num_success_N, summary.num_valid_N)
        return np.asarray(share_N >= self.kappa, dtype=np.bool_)


class VcrlConfig(GateConfig):
    """Admit a group if its variance of success is at least kappa of the largest possible."""

    name: ClassVar[str] = "vcrl"
    paper: ClassVar[str] = "design input: VCRL 2509.19803; no replay bank"

    kappa: float = Field(default=0.3, gt=0.0, le=1.0)
    """Share of the largest variance that a group must reach."""
    kappa_later: float | None = Field(default=None, gt=0.0, le=1.0)
    """The same from policy version `later_from` on; default: as before."""
    later_from: int = Field(default=20, ge=0, le=1_000_000)
    """Policy version at which `kappa_later` begins."""

    def build(self, context: Context) -> Gate:
        """The gate."""
        later = self.kappa if self.kappa_later is None else self.kappa_later
        return VcrlGate(self.kappa, later, self.later_from)
