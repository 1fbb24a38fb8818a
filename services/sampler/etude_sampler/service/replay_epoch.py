"""One epoch's decisions, one after the other, on the races and along the ledger. For `replay`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from etude_sampler.statistics import Floats, Ints

from ..ports.decisions import LoggedDecision
from .replay_budgets import check_allotment
from .replay_ledger import LedgerWalk
from .replay_log import Entered, Unreadable
from .replay_pools import check_choice
from .replay_races import Differs, EpochRaces
from .replay_report import EpochReport
from .replay_weights import WeightCheck


class EpochReplay:
    """One epoch's decisions, one after the other, on the races and along the ledger."""

    def __init__(
        self, walk: LedgerWalk, races: EpochRaces, weights: WeightCheck, told: EpochReport
    ) -> None:
        self._walk, self._races, self._weights = walk, races, weights
        self._context = walk.context
        self.told = told
        self.wrong_weights: list[str] = []
        """What is wrong, but does not keep the replay from going on."""
        self._entries: dict[int, Entered] = {}
        self._draws: dict[int, Floats] = {}
        self._last_applied: Mapping[tuple[str, int], int] = {}

    def prepare(
        self, entries: dict[int, Entered], last_applied: Mapping[tuple[str, int], int]
    ) -> None:
        """What the next page needs, read and computed together."""
        self._entries, self._last_applied = entries, last_applied
        self._draws = self._races.page_draws(entries)

    async def step(self, decision: LoggedDecision, tasks_N: Ints) -> None:
        """One decision. Raises `Differs`, `Unreadable`, `LedgerIncomplete`."""
        races = self._races
        match decision.kind:
            case "open":
                await self._open(decision, tasks_N)
            case "draw":
                self.told.num_tasks += races.draw(decision)
                self.told.num_draws += 1
            case "report" | "release" | "expire":
                await self._settle(decision)
            case "choose":
                await self._choose(decision)
            case "budget":
                self._budget(decision)
            case "announce":
                await self._shares(decision)
                races.announce(decision)
            case "reweigh":
                moved = races.moved(decision)
                before_NL = np.stack(
                    [race.weights_N[moved.tasks_N] for race in races.lanes.races], axis=1
                )
                version = races.version
                self._check(moved, [version, version + 1, version - 1], kept=before_NL)
                races.reweigh(moved)
            case "move":
                moved = races.moved(decision)
                version = races.version
                self._check(moved, [version, version + 1, version - 1])
                races.move(moved)
            case "rebase":
                races.rebase(decision)
            case "configure":
                races.configure(decision)
            case _:
                raise Unreadable(f"this version knows no decision {decision.kind!r}")

    async def _open(self, opening: LoggedDecision, tasks_N: Ints) -> None:
        await self._shares(opening)
        if opening.num_waiting is None:
            raise Unreadable("an opening that does not say how many tasks were loaded")
        loaded_N = tasks_N[: opening.num_waiting]
        version = opening.policy_version or 0
        weights_NL = self._weights.at(self._walk, loaded_N, version=version)
        self._races.open(opening, loaded_N, weights_NL)

    async def _shares(self, decision: LoggedDecision) -> None:
        version = decision.policy_version or 0
        await self._walk.advance_to_version(version)
        want = self._walk.shares_at(version)
        if want is None:
            raise Unreadable(f"version {version} is older than what the run began with")
        if want.astype("<f8").tobytes() != decision.records:
            self.wrong_weights.append(f"the shares are not those of version {version}")

    async def _settle(self, decision: LoggedDecision) -> None:
        back = self._entries.get(decision.number)
        if back is None:
            raise Unreadable("its weights were not kept, or are of another shape")
        needed = [
            self._last_applied.get((decision.lease_id, task), 0) for task in back.tasks_N.tolist()
        ]
        await self._walk.advance(max(needed, default=0))
        held = self._races.leases.get(decision.lease_id)
        version = self._races.version
        versions = [version, *self._walk.stats.last_N[back.tasks_N].tolist()]
        if held is not None:
            versions += range(held.version, version + 2)
        self._check(back, [one for one in versions if one >= 0])
        self._races.settle(decision, back, self._draws[decision.number])

    async def _choose(self, decision: LoggedDecision) -> None:
        back = self._entries.get(decision.number)
        if back is None:
            raise Unreadable("its weights were not kept, or are of another shape")
        await check_choice(self._context, self._walk, self._races, decision, back)
        await self._settle(decision)

    def _budget(self, decision: LoggedDecision) -> None:
        try:
            check_allotment(self._context, self._walk, self._races, decision)
        except Differs as error:
            self.wrong_weights.append(str(error))

    def _check(self, found: Entered, versions: Sequence[int], *, kept: Ints | None = None) -> None:
        try:
            self._weights.check(self._walk, found, versions=versions, kept=kept)
        except Differs as error:
            self.wrong_weights.append(str(error))
