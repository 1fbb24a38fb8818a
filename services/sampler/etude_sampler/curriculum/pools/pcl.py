"""Pool `pcl`: candidates whose predicted success is nearest one half (2510.01135, section 5).

Attributed to PCL by others. V is what `POST /v1/runs/{id}/predictions` stored last; `expected` says
what stands in for it. Neighbours: `mopps`, `plr`, `adarft`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from etude_sampler.curriculum.candidates import Candidates
from etude_sampler.curriculum.parts import Context, Pool, PoolConfig
from etude_sampler.statistics import Floats

from .expected import expected_success


@dataclass(frozen=True, slots=True)
class PclPool:
    """Keeps those nearest to `target`."""

    factor: float
    target: float
    reads: frozenset[str] = frozenset({"prediction"})

    def values(self, candidates: Candidates) -> Floats:
        """[N] distances of V to the target."""
        return np.abs(expected_success(candidates) - self.target)

    def explain(self, candidates: Candidates) -> str:
        """For example `V 0.4500, 0.0500 from 0.5`."""
        value = float(expected_success(candidates)[0])
        return f"V {value:.4f}, {abs(value - self.target):.4f} from {self.target:g}"


class PclConfig(PoolConfig):
    """Keep candidates whose predicted success is nearest to one half."""

    name: ClassVar[str] = "pcl"
    paper: ClassVar[str] = "design input: PCL 2510.01135"
    state: ClassVar[str] = "predictions, else ema"

    target: float = Field(default=0.5, ge=0.0, le=1.0)
    """Predicted success that is wanted."""

    def build(self, context: Context) -> Pool:
        """The pool."""
        return PclPool(self.factor, self.target)
