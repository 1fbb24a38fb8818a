"""Ladders of the simulated learner: hints and prefixes after a group without success (rules ours).

A hint of level l makes its rollout one of a task that is easier by .2 l logits in every component
(level 12: 2.4), a prefix of share s one that is easier by 3.2 s (three quarters: 2.4). Every rung
is paid for. The rungs, and where a climb begins, are those of the real part, every task having
twelve hints and a solution. Nothing of this is measured on a language model, and arms without help
do not have it: a comparison says what such help would be worth if it were so, not that it is.
Neighbours: `practice` asks, `guidance` helps with demonstrations, `curriculum.scaffolds` decides.
"""

from __future__ import annotations

import numpy as np

from etude_proto.v1 import Aids, Hints, Ladder, Merge, Rung
from etude_sampler.curriculum.scaffolding import Scaffolding, Situation
from etude_sampler.statistics import Floats, Ints, OutcomeArrays

from .guidance import EASIER, helped
from .rollout import roll_out
from .world import World

HINT_LOGITS = 0.2
"""Logits that each level of hints takes off a task's difficulty (ours)."""
PREFIX_LOGITS = 3.2
"""Logits that a whole solution would take off (ours)."""
_ITEMS = ["a", "b", "c", "d"]
_SOLUTION = "x" * 1000
_AIDS = Aids(hints=Hints(knowledge=_ITEMS, planning=_ITEMS, solution=_ITEMS), solution=_SOLUTION)


class Climber:
    """What is done for failed groups; nothing in arms without a ladder."""

    def __init__(self, scaffold: Scaffolding | None) -> None:
        self._scaffold = scaffold
        self._last: dict[int, int] = {}
        """Level at which a task succeeded when it last did."""

    def price(self, group_size: int, version: int) -> int:
        """Rollouts that a climb from the lowest rung to the highest costs."""
        ladder = self._ladder(-1, group_size, version)
        return 0 if ladder is None else ladder.num_rollouts * len(ladder.rungs)

    def climb(
        self,
        world: World,
        chances_NK: Floats,
        tasks_B: Ints,
        outcomes: OutcomeArrays,
        *,
        weights_K: Floats,
        version: int,
        noise: np.random.Generator,
    ) -> tuple[OutcomeArrays, int]:
        """The groups to train on, and the rollouts that were made for them beside the bare ones."""
        size = outcomes.success_NG.shape[1]
        failed = np.flatnonzero(np.nansum(outcomes.success_NG, axis=1) == 0)
        ladders = {int(b): self._ladder(int(tasks_B[b]), size, version) for b in failed}
        climbing = {b: ladder for b, ladder in ladders.items() if ladder is not None}
        if not climbing:
            return outcomes, 0
        trained = OutcomeArrays(
            outcomes.q_NGK.copy(),
            outcomes.reward_NG.copy(),
            outcomes.success_NG.copy(),
            outcomes.valid_NG,
        )
        spent = step = 0
        while climbing:
            rows = np.array(list(climbing), dtype=np.int64)
            rungs = [ladder.rungs[step] for ladder in climbing.values()]
            kind = next(iter(climbing.values()))
            num, merge = kind.num_rollouts, kind.merge
            levels_B = np.array([_logits(merge, rung) for rung in rungs]) / EASIER
            made = roll_out(
                world,
                helped(chances_NK, tasks_B[rows], levels_B),
                tasks_B[rows],
                group_size=num,
                weights_K=weights_K,
                noise=noise,
            )
            spent += num * len(rows)
            for i, b in enumerate(rows.tolist()):
                if made.success_NG[i].any():
                    self._last[int(tasks_B[b])] = rungs[i].level
                    one = (int(noise.integers(size)),) if merge is Merge.REPLACE_ONE else ()
                    _put(trained, (b, *one), made, i)
                    climbing.pop(b)
            step += 1
            climbing = {b: one for b, one in climbing.items() if step < len(one.rungs)}
        return trained, spent

    def _ladder(self, task: int, group_size: int, version: int) -> Ladder | None:
        """The ladder of a task; None: none, or none that is simulated."""
        if self._scaffold is None:
            return None
        situation = Situation(
            (), _AIDS, version, num_rollouts=group_size, last_success=self._last.get(task)
        )
        ladder = self._scaffold.serve(situation).ladder
        return None if ladder is None or ladder.merge is Merge.APPEND_TURN else ladder


def _logits(merge: Merge, rung: Rung) -> float:
    """What a rung takes off a task's difficulty."""
    if merge is Merge.REPLACE_ONE:
        return HINT_LOGITS * rung.level
    return PREFIX_LOGITS * len(rung.text) / len(_SOLUTION)


def _put(trained: OutcomeArrays, place: tuple[int, ...], made: OutcomeArrays, i: int) -> None:
    """Group i of `made` in the place of a group, or its one rollout in that of a rollout."""
    for name in ("q_NGK", "reward_NG", "success_NG"):
        group = getattr(made, name)[i]
        getattr(trained, name)[place] = group if len(place) == 1 else group[0]
