"""Scaffold `prefix`: the beginning of a verified solution (GHPO, section 6).

Shares are tried in order, a whole group each, until any rollout succeeds; that group is trained on,
under the prompt that it saw (our choice; some released code trains it on the bare one). Whole turns
of tool traces are our choice too. Where cuts are allowed: `cutting`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from etude_proto.v1 import Aids, Ladder, Merge, Rung
from etude_sampler.curriculum.faults import KnobFault
from etude_sampler.curriculum.parts import Context, ScaffoldConfig
from etude_sampler.curriculum.scaffolding import Aid, Scaffolding, Served, Situation

from .cutting import cut_of_text, cut_of_turns
from .plain import PlainScaffolding


@dataclass(frozen=True, slots=True)
class PrefixScaffolding(PlainScaffolding):
    """Serves ever more of the task's solution."""

    start_version: int = 0
    shares: tuple[float, ...] = ()

    def serve(self, task: Situation) -> Served:
        """A ladder of prefixes; none if no part of the solution may be shown."""
        if task.version < self.start_version:
            return Served()
        rungs = self._rungs(task.aids)
        if not rungs:
            return Served()
        ladder = Ladder(
            kind=self.kind, merge=Merge.REPLACE_ALL, num_rollouts=task.num_rollouts, rungs=rungs
        )
        return Served(ladder=ladder)

    def _rungs(self, aids: Aids) -> list[Rung]:
        solution = aids.solution
        if solution is None:
            return []
        rungs = []
        for level, share in enumerate(self.shares, start=1):
            if isinstance(solution, str):
                rung = Rung(level=level, text=solution[: cut_of_text(solution, share)])
            else:
                rung = Rung(level=level, turns=cut_of_turns(solution, share))
            if rung.text or rung.turns:
                rungs.append(rung)
        return rungs


class PrefixConfig(ScaffoldConfig):
    """After a group without success: the beginning of the solution, more of it each time."""

    name: ClassVar[str] = "prefix"
    paper: ClassVar[str] = "GHPO 2507.10628; whole turns of tool traces are ours"
    aid: ClassVar[Aid | None] = "solution"

    start_version: int = Field(default=20, ge=0, le=1_000_000)
    """Policy version from which failed groups get a prefix (design input: reviews of GHPO)."""
    shares: tuple[float, ...] = Field(default=(0.25, 0.5, 0.75), min_length=1, max_length=16)
    """Shares of the solution, in rising order; level 1 is the first."""
    missing: Literal["refuse", "bare"] = "refuse"
    """Tasks without a solution: `refuse` the run, or serve them `bare`."""

    def build(self, context: Context) -> Scaffolding:
        """The scaffold."""
        for place, share in enumerate(self.shares):
            if not 0.0 < share < 1.0:
                raise KnobFault(("shares", place), "a share must lie between 0 and 1")
            if place and share <= self.shares[place - 1]:
                raise KnobFault(("shares", place), "shares must rise")
        return PrefixScaffolding(
            kind=self.name, aid=self.aid, start_version=self.start_version, shares=self.shares
        )
