"""Plays an item of several turns: the worker's own loop and environments, one rollout, no reward.

Called by `asking.py` for items with an episode. What the policy says is kept turn by turn; the
benchmark judges it afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from etude_proto.v1 import Arm, FinishReason, PromptItem, Scaffold, Task
from etude_proto.v1 import Split as TaskSplit

from ..engines.base import Completion, Engine, EngineError, EngineInfo, GenerationRequest, Sampling
from ..prompting import Prompt, Prompter, PromptError
from ..rewards.episodes import EpisodeGold
from ..tools.base import EnvironmentFailed
from ..tools.opening import Environments
from ..turns.chains import Chain
from ..turns.continuing import Continuer
from ..turns.options import TurnOptions
from ..turns.playing import Player, Table
from .engine_answers import Answering, item_seed
from .items import EpisodeSpec, Item

MAX_OBSERVATION_CHARS = 1 << 20
"""Answers of tools are not cut; the context is the limit, as in BFCL's harness."""


@dataclass(frozen=True, slots=True)
class Played:
    """An episode that has ended."""

    turns: list[list[str]]
    """For each of the user's turns that was reached, what the policy said, answer by answer."""
    token_ids: list[int]
    """What the policy sampled, all turns together."""
    num_prompt_tokens: int
    """Of the first prompt."""
    finish_reason: FinishReason
    """`stop` if the policy answered every turn of the user."""


class Episodes:
    """Plays items with one answerer, one prompter and one set of environments."""

    def __init__(
        self, answering: Answering, prompter: Prompter, environments: Environments
    ) -> None:
        self._answering = answering
        self._prompter = prompter
        self._continuer = Continuer(prompter)
        self._environments = environments

    async def play(
        self, item: Item, spec: EpisodeSpec, sampling: Sampling, *, seed: int, timeout_s: float
    ) -> Played:
        """One episode.

        Raises:
            EngineError: the engine, or the environment, failed.
            PromptError: the chat template refuses the dialogue.
            PromptTooLong: the first prompt leaves no room for an answer.
        """
        table = self._table(item, spec, sampling, seed=seed, timeout_s=timeout_s)
        try:
            session = await table.open_session()
        except EnvironmentFailed as failed:
            raise EngineError(f"the environment failed: {failed}") from failed
        try:
            tools = session.tools
            prompt = self._prompter.render(item.messages, tools)
            if table.max_tokens and len(prompt.token_ids) >= table.max_tokens:
                raise PromptTooLong(len(prompt.token_ids))
            player = Player(table, prompt, tools)
            return await _played(player, player.begin(0, session), prompt)
        finally:
            await session.close()

    def _table(
        self, item: Item, spec: EpisodeSpec, sampling: Sampling, *, seed: int, timeout_s: float
    ) -> Table:
        options = TurnOptions(
            call_format="toolrl",
            max_turns=spec.max_steps,
            max_calls=spec.max_steps * 16,
            max_observation_chars=MAX_OBSERVATION_CHARS,
        )
        return Table(
            engine=cast(Engine, _OneItem(self._answering, item)),
            continuer=self._continuer,
            environments=self._environments,
            options=options,
            form="toolrl",
            sampling=sampling,
            item=_prompt_item(item, spec),
            spec=spec.environment,
            dialogue=item.messages,
            gold=EpisodeGold(),
            weights={},
            seed_of=lambda stream: item_seed(seed, f"{item.id}/{stream}"),
            timeout_s=timeout_s,
            vocab_size=0,  # asked for by branching alone
        )


class PromptTooLong(PromptError):
    """A first prompt that leaves no room for an answer."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__(f"the prompt's {num_tokens} tokens fill the context")
        self.num_tokens = num_tokens

    def __reduce__(self) -> tuple[type[PromptTooLong], tuple[int]]:
        return PromptTooLong, (self.num_tokens,)


class _OneItem:
    """An answerer as the engine of one item's episode."""

    def __init__(self, answering: Answering, item: Item) -> None:
        self._answering = answering
        self._item = item
        self.info = EngineInfo(
            name=answering.name, model="", max_context=answering.max_context or 1 << 30
        )

    async def generate(self, request: GenerationRequest) -> tuple[Completion, ...]:
        """One completion; see `Engine.generate`."""
        return (await self._answering.answer(self._item, request),)


async def _played(player: Player, chain: Chain, prompt: Prompt) -> Played:
    """
    Raises:
        EngineError: infrastructure ended the episode.
    """
    turns: list[list[str]] = [[]]
    while not chain.is_over:
        said = await player.speak(chain)
        if said is None:
            break
        while len(turns) <= chain.request:
            turns.append([])
        turns[chain.request].append(prompt.prefill + said[0].text)
        await player.hear(chain, said[0])
    if not chain.finish_reason.is_valid:
        raise EngineError(f"the episode ended with {chain.finish_reason}: {chain.detail}")
    return Played(
        turns=turns,
        token_ids=_sampled(chain.track.token_ids, chain.track.is_sampled),
        num_prompt_tokens=len(prompt.token_ids),
        finish_reason=chain.finish_reason,
    )


def _sampled(token_ids: Sequence[int], is_sampled: Sequence[bool]) -> list[int]:
    return [token for token, own in zip(token_ids, is_sampled, strict=True) if own]


def _prompt_item(item: Item, spec: EpisodeSpec) -> PromptItem:
    """The item in the form that the loop takes; no run, no lane, no lease stands behind it."""
    task = Task(
        id=item.id,
        ordinal=0,
        messages=list(item.messages),
        tools=[],
        reference=None,
        subtasks=[],
        source="evaluation",
        split=TaskSplit.HELD_OUT,
        metadata={},
        environment=spec.environment,
    )
    return PromptItem(
        task=task,
        num_rollouts=1,
        scaffold=Scaffold(),
        lane="evaluation",
        arm=Arm.CONTROL,
        weight=1.0,
        slot_probability=1.0,
        entry=0,
    )
