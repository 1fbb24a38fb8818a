"""Part `multi_round`: dynamic multi-round hard sampling (algorithms.md 4.1).

Neighbours: `machine` has the states, `pace` the rounds, `sampling` the lanes; the demonstrations
are chosen by `curriculum.demonstrations`.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.parts import Context, HardConfig
from etude_sampler.statistics import Floats, GroupSummary, Ints, Note, TaskStatistics

from .machine import FRESH, HardConstants
from .sampling import HardSampling


def _kept(x_NW: Floats, before: TaskStatistics, summary: GroupSummary, version_N: Ints) -> Floats:
    """Groups do not move the note by themselves: `after_visit` knows round and scaffold."""
    return x_NW


HARD_NOTE = Note("hard", FRESH, _kept)
"""The state of a task, on its un-scaffolded row alone."""


class MultiRoundConfig(HardConfig):
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
            columns=context.notes.get(HARD_NOTE.name, slice(0, len(FRESH))),
            pool_size=self.pool_size,
            lam=self.lam,
        )
