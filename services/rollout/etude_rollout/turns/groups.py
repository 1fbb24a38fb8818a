"""The group of a task with an environment: its rollouts, chain by chain or branch by branch.

Without branching every rollout is played on its own, as fast as its calls allow. With branching the
group goes in rounds, in which every live chain takes one turn; between rounds chains are cloned
(`branching.py`), and the order of chains alone decides who gets the budget. Called by `episode.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from etude_proto.v1 import FinishReason

from ..engines.base import Completion
from ..phases import EpisodeFailed
from ..tools.base import EnvironmentFailed
from ..tools.session import Session
from .branching import NUM_TOP, branch_probability, chance, entropy
from .chains import Chain
from .options import Branching
from .playing import Player, Table

_log = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class GroupPlay:
    """Plays the rollouts of one task; closes every session that it opened."""

    table: Table
    player: Player
    first_session: Session | None
    """Opened to learn the tools; the first rollout's."""
    _sessions: list[Session] = field(default_factory=list)

    async def play(self, num: int, first: int) -> list[Chain]:
        """`num` rollouts, the first of them with this number, each on its own.

        Raises:
            EpisodeFailed: the first turn could not be generated for any.
            EngineUnavailable: the engine is away.
        """
        try:
            chains = await self._roots(num, first)
            said = await self._first_turns(chains)
            async with asyncio.TaskGroup() as group:
                for chain, completion in zip(chains, said, strict=True):
                    group.create_task(self._play_out(chain, completion))
            return chains
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            await self._close()

    async def play_branching(self, budget: int, rule: Branching) -> list[Chain]:
        """`budget` rollouts: roots, branches of them, and fresh roots where branches were few.

        Raises:
            EpisodeFailed: the first turn could not be generated for any.
            EngineUnavailable: the engine is away.
        """
        try:
            chains = await self._roots(min(rule.num_roots, budget), 0)
            said = list(await self._first_turns(chains))
            live = list(zip(chains, said, strict=True))
            while live or len(chains) < budget:
                if not live:  # every chain has ended, and some of the budget is left
                    fresh = await self._roots(1, len(chains))
                    chains += fresh
                    live = list(zip(fresh, await self._first_turns(fresh), strict=True))
                for chain, completion in live:
                    if chain.start_entropy is None and not chain.turns:
                        chain.start_entropy = self._entropy(completion)
                await _each([self._hear(chain, completion) for chain, completion in live])
                going = [chain for chain, _ in live if not chain.is_over]
                spoken = await self._speak_all(going)
                clones = await self._clones(spoken, rule, num=len(chains), budget=budget)
                chains += clones
                live = spoken + await self._speak_all(clones)
            return chains
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            await self._close()

    async def _roots(self, num: int, first: int) -> list[Chain]:
        """Chains with environments of their own.

        Raises:
            EpisodeFailed: one of them cannot be opened.
        """
        opened = await asyncio.gather(*(self._open() for _ in range(num)))
        chains = []
        for number, session in enumerate(opened, start=first):
            if isinstance(session, Session):
                chains.append(self.player.begin(number, session))
            else:
                raise EpisodeFailed(session.reason, session.detail)
        return chains

    async def _open(self) -> Session | EnvironmentFailed:
        if self.first_session is not None:
            session, self.first_session = self.first_session, None
        else:
            try:
                session = await self.table.open_session()
            except EnvironmentFailed as failed:
                return failed
        self._sessions.append(session)
        return session

    async def _first_turns(self, chains: Sequence[Chain]) -> Sequence[Completion]:
        """The first turns of roots, in one request: they share the prompt.

        Raises:
            EpisodeFailed: there are none.
        """
        said = await self.player.speak(chains[0], len(chains), num_top=self._num_top)
        if said is None:
            reason = chains[0].finish_reason
            reason = FinishReason.ERROR if reason.is_valid else reason
            detail = chains[0].detail or "the prompt leaves no room for an answer"
            raise EpisodeFailed(reason, detail)
        return said

    async def _play_out(self, chain: Chain, completion: Completion) -> None:
        await self._hear(chain, completion)
        while not chain.is_over:
            said = await self.player.speak(chain)
            if said is None:
                await self.player.settle(chain)
            else:
                await self._hear(chain, said[0])

    async def _hear(self, chain: Chain, completion: Completion) -> None:
        await self.player.hear(chain, completion)
        if chain.is_over:
            await self.player.settle(chain)

    async def _speak_all(self, chains: Sequence[Chain]) -> list[tuple[Chain, Completion]]:
        """Next turns of several chains at the same time; those that have none are over."""
        num_top = self._num_top
        said = await _each([self.player.speak(chain, num_top=num_top) for chain in chains])
        spoken = []
        for chain, completions in zip(chains, said, strict=True):
            if completions is None:
                await self.player.settle(chain)
            else:
                spoken.append((chain, completions[0]))
        return spoken

    async def _clones(
        self,
        spoken: Sequence[tuple[Chain, Completion]],
        rule: Branching,
        *,
        num: int,
        budget: int,
    ) -> list[Chain]:
        """Branches of the chains that have just answered tools, at the place before they did."""
        clones: list[Chain] = []
        for chain, completion in spoken:
            if num + len(clones) >= budget:
                break
            now = self._entropy(completion)
            if not chain.follows_tools or now is None or chain.start_entropy is None:
                continue
            likely = branch_probability(now - chain.start_entropy, weight=rule.weight)
            if chance(self.table.seed_of("branch"), chain.number, len(chain.turns)) >= likely:
                continue
            try:
                session = await chain.session.clone()
            except EnvironmentFailed as failed:
                _log.warning("branch.left_out", extra={"detail": failed.detail})
                continue
            self._sessions.append(session)
            clones.append(chain.clone(num + len(clones), session))
        return clones

    @property
    def _num_top(self) -> int:
        return 0 if self.table.options.branching is None else NUM_TOP

    def _entropy(self, completion: Completion) -> float | None:
        return entropy(completion.top_logprobs, vocab_size=self.table.vocab_size)

    async def _close(self) -> None:
        await asyncio.gather(*(session.close() for session in self._sessions))
        self._sessions.clear()


async def _each(work: Sequence[Coroutine[object, object, ResultT]]) -> list[ResultT]:
    """The results of several coroutines; the first failure cancels the others.

    Raises:
        BaseExceptionGroup: of what was raised.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]
