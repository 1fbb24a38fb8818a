"""Hard sampling of one run: what the states mean for lanes, weights and shares (algorithms.md 3.5).

A hard task stands in lane `hard` (weight 1, served with demonstrations) and in `uniform` (served
bare), in no component lane; a parked one in none. The number of demonstrations, or of a probe's
rollouts, rides in the last digits of the weight: what a draw wrote down says what to serve, on
any replica and on every retry. Neighbours: `machine`, `pace`; `multi_round` has the knobs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import JsonValue

from etude_sampler.curriculum.state import FoldInput
from etude_sampler.statistics import Floats, Ints

from .machine import (
    DUE,
    LIVE,
    PARKED,
    HardConstants,
    K,
    Visit,
    after_visit,
    owed,
    resolved,
    zeros_of,
)
from .pace import HardPace, census

HARD_LANE, PROBE_LANE = "hard", "probe"
"""Lanes after the component lanes, in this order."""
_ONE = 1_000_000
"""Weight 1 in the lanes' unit."""


@dataclass(frozen=True, slots=True)
class HardSampling:
    """Hard sampling of one run at a pace; pure. `binding.Paced`."""

    constants: HardConstants
    max_share: float
    probe_share: float
    max_parked_share: float
    columns: slice
    """Of the note in `x_NE`."""
    pool_size: int = 256
    lam: float = 0.7
    now: HardPace = field(default_factory=HardPace)

    @property
    def live_column(self) -> int:
        """The column of `x_NE` that is not 0 for every task whose state is not plain."""
        return int(self.columns.start) + LIVE

    def start(self) -> JsonValue:
        """Pace of a new run."""
        return HardPace().to_json()

    def advance(self, pace: JsonValue, folded: FoldInput) -> JsonValue:
        """Pace after one policy version, from its number of groups and the census."""
        moved = _pace(pace).advanced(
            folded.num_groups, num_tasks=folded.num_tasks, version=folded.num_acked_batches
        )
        found = census(
            folded.live_ME[:, self.columns],
            moved,
            max_parked=int(self.max_parked_share * folded.num_tasks),
            constants=self.constants,
        )
        return replace(
            moved,
            freed=found.freed,
            num_hard=found.num_hard,
            num_parked=found.num_parked,
            num_due=found.num_due,
        ).to_json()

    def at(self, pace: JsonValue) -> HardSampling:
        """The same at this pace."""
        return replace(self, now=_pace(pace))

    def shares(self, shares_L: Floats) -> Floats:
        """Lane shares [L + 2]: `hard` min(.25, N_hard/N), `probe` at most a tenth, the rest scaled.

        Probes get what serves them within one version's groups.
        """
        now = self.now
        hard = min(self.max_share, now.num_hard / max(1, now.num_tasks))
        probe = min(self.probe_share, now.num_due / max(1, now.last_groups))
        return np.concatenate([(1.0 - hard - probe) * shares_L, [hard, probe]])

    def lanes(self, weights_NL: Ints, x_NE: Floats) -> Ints:
        """Lane weights [N, L + 2] in units of 1e-6, from those of `uniform` and the components.

        Weight 1 in `hard` and `probe`, plus one unit for each demonstration or rollout to make.
        """
        x = self._resolved(x_NE)
        weights = np.zeros((len(weights_NL), weights_NL.shape[1] + 2), dtype=np.int64)
        weights[:, :-2] = weights_NL
        weights[x[:, K] == PARKED, 0] = 0
        weights[x[:, K] != 0, 1:-2] = 0
        hard_N, due_N = x[:, K] > 0, x[:, DUE] > 0
        weights[hard_N, -2] = _ONE + x[hard_N, K].astype(np.int64)
        weights[due_N, -1] = _ONE + owed(x, self.constants)[due_N].astype(np.int64)
        return weights

    def served(self, weight_micro: int) -> int:
        """Demonstrations, or rollouts of a probe, that a weight in `hard` or `probe` asks for."""
        return weight_micro - _ONE

    def visited(self, x_E: Floats, visit: Visit) -> Floats:
        """A task's notes [E] after a group of it, at any scaffold."""
        after = x_E.copy()
        after[self.columns] = after_visit(
            x_E[self.columns],
            visit,
            round_now=self.now.round,
            freed=self.now.freed,
            constants=self.constants,
        )
        return after

    def explain(self, x_E: Floats) -> str:
        """A task's state in a few words."""
        x = self._resolved(x_E[None, :])
        k, zeros = int(x[0, K]), int(zeros_of(x)[0])
        if k > 0:
            return f"hard: {k} demonstrations" if k > 1 else "hard: 1 demonstration"
        if k == PARKED:
            return "parked: nothing helped so far"
        return f"active: {zeros} of {self.constants.hard_after} failures in a row"

    def _resolved(self, x_NE: Floats) -> Floats:
        return resolved(
            x_NE[:, self.columns],
            round_now=self.now.round,
            freed=self.now.freed,
            constants=self.constants,
        )


def _pace(pace: JsonValue) -> HardPace:
    if not isinstance(pace, dict):
        raise ValueError("the pace of hard sampling is no object")
    return HardPace.from_json(pace)
