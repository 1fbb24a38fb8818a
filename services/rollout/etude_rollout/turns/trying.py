"""Rollouts of one episode task under whatever first prompt: bare, with hints, with a beginning.

Help acts on an episode's first prompt, and stays in it as the episode goes on; every rollout of a
rung has an environment of its own in its first state. What would have to stand in the middle, the
turns of a traced solution and a reflection, is not shown (our choice). `tabling.py` makes one a
task; `replacing.py` climbs with it and `guiding.py` shows demonstrations by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from etude_proto.v1 import FinishReason, Message, Reference, RewardSpec, Tool

from ..kit import Kit
from ..phases import EpisodeFailed
from ..prompting import Prompt
from ..rewards import RewardConfigError
from ..rolling import appended_text, bonus_rule, is_right_under, reward_config
from .chains import Chain
from .groups import GroupPlay
from .playing import Player, Table

_SAME_WORLD = "environment"
"""Stream of the environment's seed: help changes what is shown, not the world."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One rollout: the prompt that it began with, what became of it, what it earned besides."""

    prompt: Prompt
    chain: Chain
    shaping: float = 0.0

    @property
    def is_valid(self) -> bool:
        """Whether it says something about the policy."""
        return self.chain.scored is not None and self.chain.finish_reason.is_valid

    @property
    def is_right(self) -> bool:
        """Whether it succeeded."""
        return self.chain.scored is not None and self.chain.scored.success


class EpisodeTries:
    """Plays one task with other prompts."""

    def __init__(self, kit: Kit, table: Table, tools: Sequence[Tool], reward: RewardSpec) -> None:
        self._kit = kit
        self._table = table
        self._tools = tools
        self._reward = reward
        self._bonus = bonus_rule(table.item, tools, table.dialogue)

    def prompt(
        self, *, appended: str = "", turns: Sequence[Message] = (), prefix: str = ""
    ) -> Prompt:
        """The first prompt, with help.

        Args:
            appended: stands at the end of the system text.
            turns: of a solution; refused, for their calls were never executed here.
            prefix: what the first turn begins with.

        Raises:
            EpisodeFailed: the model cannot be shown the task, or it is too long.
        """
        if turns:
            raise EpisodeFailed(FinishReason.ERROR, "a solution's turns are not shown in episodes")
        return self._kit.prompt(
            self._table.dialogue,
            self._tools,
            appended=appended_text(self._table.item, appended),
            prefix=prefix,
        )

    def seed(self, stream: str = "") -> int:
        """Seed of the group, or of one of its further streams."""
        return self._table.seed_of(stream)

    async def sample(self, prompt: Prompt, num: int, *, stream: str) -> list[Episode]:
        """`num` rollouts that begin with a prompt, scored; without branches.

        Raises:
            EpisodeFailed: none could be begun.
            EngineUnavailable: the engine is away.
        """
        seed_of = self._table.seed_of
        table = replace(
            self._table,
            seed_of=lambda name: seed_of(name if name == _SAME_WORLD else f"{stream}/{name}"),
        )
        play = GroupPlay(table, Player(table, prompt, self._tools), None)
        return self.episodes(prompt, await play.play(num, 0))

    def episodes(self, prompt: Prompt, chains: Sequence[Chain]) -> list[Episode]:
        """Rollouts with what they earned besides their reward."""
        return [
            Episode(
                prompt,
                chain,
                0.0 if chain.scored is None else self._bonus(chain.first_text, chain.scored),
            )
            for chain in chains
        ]

    def is_right(self, answer: str, reference: Reference) -> bool:
        """Whether an answer to another task succeeds under the run's reward."""
        try:
            return is_right_under(reward_config(self._reward), answer, reference)
        except RewardConfigError:
            return False
