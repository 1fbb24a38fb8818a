"""Part `multi_round`: lanes for hard tasks and for probes beside those of the curriculum.

A hard task stands in lane `hard` (weight 1, served with demonstrations) and in `uniform` (served
bare), in no component lane; a parked one in none. The number of demonstrations, or of a probe's
rollouts, rides in the last digits of the weight: what a draw wrote down says what to serve, on
any replica and on every retry. Neighbours: `machine`, `pace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pydantic import Field, JsonValue

from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.parts import Context, PartConfig
from etude_sampler.statistics import Floats, GroupSummary, Ints, Note, TaskStatistics

from .machine import (
    FRESH,
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


def _kept(x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints) -> Floats:
    """Groups do not move the note by themselves: `after_visit` knows round and scaffold."""
    return x_NW


HARD_NOTE = Note("hard", FRESH, _kept)
"""The state of a task, on its un-scaffolded row alone."""


@dataclass(frozen=True, slots=True)
class HardSampling:
    """Hard sampling of one run; pure."""

    constants: HardConstants
    max_share: float
    probe_share: float
    max_parked_share: float
    columns: slice
    """Of the note in `x_NE`."""

    def start(self) -> dict[str, JsonValue]:
        """Pace of a new run."""
        return HardPace().to_json()

    def visited(self, x_E: Floats, visit: Visit, pace: Mapping[str, JsonValue]) -> Floats:
        """A task's notes [E] after a group of it."""
        now, after = HardPace.from_json(pace), x_E.copy()
        after[self.columns] = after_visit(
            x_E[self.columns],
            visit,
            round_now=now.round,
            freed=now.freed,
            constants=self.constants,
        )
        return after

    def advance(
        self,
        pace: Mapping[str, JsonValue],
        x_NE: Floats,
        *,
        num_groups: int,
        num_tasks: int,
        version: int,
    ) -> dict[str, JsonValue]:
        """Pace after one policy version.

        Args:
            pace: before.
            x_NE: notes of every task whose state is not plain; others may be among them.
            num_groups: applied groups of the version, at any scaffold.
            num_tasks: N of the run.
            version: the policy version that is made.
        """
        moved = HardPace.from_json(pace).advanced(num_groups, num_tasks=num_tasks, version=version)
        found = census(
            x_NE[:, self.columns],
            moved,
            max_parked=int(self.max_parked_share * num_tasks),
            constants=self.constants,
        )
        return replace(
            moved,
            freed=found.freed,
            num_hard=found.num_hard,
            num_parked=found.num_parked,
            num_due=found.num_due,
        ).to_json()

    def shares(self, shares_L: Floats, pace: Mapping[str, JsonValue], *, num_tasks: int) -> Floats:
        """Lane shares [L + 2]: `hard` min(.25, N_hard/N), `probe` at most a tenth, the rest scaled.

        Probes get what serves them within one version's groups.
        """
        now = HardPace.from_json(pace)
        hard = min(self.max_share, now.num_hard / num_tasks)
        probe = min(self.probe_share, now.num_due / max(1, now.last_groups))
        return np.concatenate([(1.0 - hard - probe) * shares_L, [hard, probe]])

    def lanes(self, weights_NL: Ints, x_NE: Floats, pace: Mapping[str, JsonValue]) -> Ints:
        """Lane weights [N, L + 2] in units of 1e-6, from those of `uniform` and the components.

        Weight 1 in `hard` and `probe`, plus one unit for each demonstration or rollout to make.
        """
        x = self._now(x_NE, pace)
        weights = np.zeros((len(weights_NL), weights_NL.shape[1] + 2), dtype=np.int64)
        weights[:, :-2] = weights_NL
        weights[x[:, K] == PARKED, 0] = 0
        weights[x[:, K] != 0, 1:-2] = 0
        hard_N, due_N = x[:, K] > 0, owed(x, self.constants)
        weights[hard_N, -2] = _ONE + x[hard_N, K].astype(np.int64)
        weights[due_N > 0, -1] = _ONE + due_N[due_N > 0].astype(np.int64)
        return weights

    def served(self, weight_micro: int) -> int:
        """Demonstrations, or rollouts of a probe, that a weight in `hard` or `probe` asks for."""
        return weight_micro - _ONE

    def explain(self, x_E: Floats, pace: Mapping[str, JsonValue]) -> str:
        """A task's state in a few words."""
        x = self._now(x_E[None, :], pace)
        k, zeros = int(x[0, K]), int(zeros_of(x)[0])
        if k > 0:
            return f"hard: {k} demonstrations" if k > 1 else "hard: 1 demonstration"
        if k == PARKED:
            return "parked: nothing helped so far"
        return f"active: {zeros} of {self.constants.hard_after} failures in a row"

    def _now(self, x_NE: Floats, pace: Mapping[str, JsonValue]) -> Floats:
        now = HardPace.from_json(pace)
        return resolved(
            x_NE[:, self.columns],
            round_now=now.round,
            freed=now.freed,
            constants=self.constants,
        )


class MultiRoundConfig(PartConfig):
    """Tasks that never succeed are practised with demonstrations, in rounds; some are parked."""

    name: ClassVar[str] = "multi_round"
    paper: ClassVar[str] = (
        "idea of ToolExpander 2510.07737 (hard: no success in 10 rollouts, then demonstrations); "
        "state machine, rounds and limits ours"
    )
    state: ClassVar[str] = "failures in a row, guided successes"
    notes: ClassVar[tuple[Note, ...]] = (HARD_NOTE,)

    hard_after: int = Field(default=10, ge=2, le=1024)
    """Un-scaffolded failures in a row that make a task hard (ToolExpander)."""
    probe_from: int = Field(default=4, ge=1, le=1024)
    """At a round's end, so many failures ask for a probe of the missing rollouts (ours)."""
    k_max: int = Field(default=2, ge=1, le=8)
    """Demonstrations shown to a task that has become hard (ours)."""
    pass_rate: float = Field(default=0.5, gt=0.0, le=1.0)
    """Guided success from which a task gets one demonstration less (ours)."""
    parked_after: int = Field(default=2, ge=1, le=100)
    """Rounds in a row without guided success before a task is parked (ours)."""
    retry_rounds: int = Field(default=3, ge=1, le=1000)
    """Rounds until a parked task is tried again (ours)."""
    max_share: float = Field(default=0.25, gt=0.0, le=0.5)
    """Most of the slots that lane `hard` gets (ours)."""
    probe_share: float = Field(default=0.1, gt=0.0, le=0.25)
    """Most of the slots that lane `probe` gets (ours)."""
    max_parked_share: float = Field(default=0.05, ge=0.0, le=0.5)
    """Most of the tasks that are parked at a time; the oldest come back first (ours)."""
    pool_size: int = Field(default=256, ge=1, le=4096)
    """Newest right completions of the policy that demonstrations are chosen from (ours)."""
    lam: float = Field(default=0.7, ge=0.0, le=1.0)
    """Weight of relevance against sameness when demonstrations are chosen (ours)."""

    def build(self, context: Context) -> HardSampling:
        """The sampling; raises `KnobFault` if a knob contradicts another."""
        if self.probe_from >= self.hard_after:
            raise KnobFault(("probe_from",), f"must be below hard_after ({self.hard_after})")
        return HardSampling(
            constants=HardConstants(
                hard_after=self.hard_after,
                probe_from=self.probe_from,
                k_max=self.k_max,
                pass_rate=self.pass_rate,
                parked_after=self.parked_after,
                retry_rounds=self.retry_rounds,
            ),
            max_share=self.max_share,
            probe_share=self.probe_share,
            max_parked_share=self.max_parked_share,
            columns=context.notes[HARD_NOTE.name],
        )
