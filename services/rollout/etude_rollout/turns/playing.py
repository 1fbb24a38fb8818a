"""Moves a rollout by a turn: reads what the policy said, executes its calls, writes what follows.

A table is laid for every task (`Table`): its dialogue, its gold, and everything that plays it. One
chain at a time is moved here; `groups.py` decides which, when, and what is generated next.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from etude_proto.v1 import Environment as EnvironmentSpec
from etude_proto.v1 import FinishReason, Message, PromptItem, Tool

from ..engines.base import (
    Completion,
    Engine,
    EngineError,
    EngineUnavailable,
    GenerationRequest,
    Sampling,
)
from ..kit import LATE_S
from ..phases import EpisodeFailed
from ..prompting import Prompt, PromptError
from ..rewards.episodes import EpisodeFacts, EpisodeGold, MadeCall, score_episode
from ..tools.base import EnvironmentFailed, Opening, ToolCall
from ..tools.opening import Environments
from ..tools.session import Observation, Session
from .calls import BadCall, Turn, read_turn, well_formed
from .chains import Chain, Track
from .continuing import Continuer
from .options import PARALLEL_TURNS, CallFormat, TurnOptions


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that one task is played with."""

    engine: Engine
    continuer: Continuer
    environments: Environments
    options: TurnOptions
    form: CallFormat
    sampling: Sampling
    item: PromptItem
    spec: EnvironmentSpec
    dialogue: Sequence[Message]
    gold: EpisodeGold
    weights: Mapping[str, float]
    seed_of: Callable[[str], int]
    """Seed of the group, or of one of its further streams."""
    timeout_s: float
    """Time of an episode."""
    vocab_size: int
    """Tokens of the vocabulary; the tokenizer's, where the engine does not say."""

    @property
    def max_tokens(self) -> int:
        """Most tokens of an episode."""
        context = self.engine.info.max_context
        limit = self.options.max_tokens
        return context if limit is None else min(limit, context)

    async def open_session(self) -> Session:
        """A fresh environment. Raises `EnvironmentFailed`."""
        opening = Opening(
            spec=self.spec,
            reference=self.item.task.reference,
            tools=self.item.task.tools,
            seed=self.seed_of("environment"),
            call_timeout_s=self.options.call_timeout_s,
        )
        limit = self.options.max_observation_chars
        return await self.environments.open(opening, max_chars=limit)

    def shown_tools(self, session: Session) -> Sequence[Tool]:
        """Tools of the first prompt: the task's own, or those of the environment."""
        return self.item.task.tools or session.tools


class Player:
    """Moves the chains of one task."""

    def __init__(self, table: Table, prompt: Prompt, tools: Sequence[Tool]) -> None:
        """
        Args:
            prompt: what every chain begins with.
            tools: shown in it.
        """
        self.table = table
        self.prompt = prompt
        self._tools = tools
        self._dialogue = table.dialogue

    def begin(self, number: int, session: Session) -> Chain:
        """A root: a chain that has said nothing yet."""
        deadline_s = asyncio.get_running_loop().time() + self.table.timeout_s
        return Chain(number, session, Track.of_prompt(self.prompt.token_ids), deadline_s)

    async def speak(
        self, chain: Chain, num_completions: int = 1, *, num_top: int = 0
    ) -> tuple[Completion, ...] | None:
        """The chain's next turn; None if there is no room or no time left, and the chain is over.

        Args:
            num_completions: more than one for a first turn that several roots share.
            num_top: most likely log-probabilities wanted of each token.

        Raises:
            EngineUnavailable: the engine is away.
        """
        table = self.table
        room = min(table.sampling.max_new_tokens, table.max_tokens - len(chain.track.token_ids))
        left_s = chain.deadline_s - asyncio.get_running_loop().time()
        if room < 1:
            chain.ended = FinishReason.LENGTH
            return None
        turn = len(chain.turns)
        request = GenerationRequest(
            prompt_ids=tuple(chain.track.token_ids),
            num_completions=num_completions,
            first=chain.number,
            sampling=replace(table.sampling, max_new_tokens=room, num_top_logprobs=num_top),
            seed=table.seed_of(f"turn/{turn}" if turn else ""),
            timeout_s=max(left_s, 0.001),
        )
        try:
            async with asyncio.timeout(max(left_s, 0.0) + LATE_S):
                return await table.engine.generate(request)
        except TimeoutError:
            fail(chain, FinishReason.TIMEOUT, "the engine did not answer in time")
        except EngineUnavailable:
            raise
        except EngineError as error:
            fail(chain, FinishReason.ERROR, str(error))
        return None

    async def hear(self, chain: Chain, completion: Completion) -> None:
        """Take what the policy said: execute calls, go on to the next request, or end."""
        try:
            async with asyncio.timeout_at(chain.deadline_s):
                await self._hear(chain, completion)
        except TimeoutError:
            limit_s = self.table.timeout_s
            fail(chain, FinishReason.TIMEOUT, f"the episode took more than {limit_s:g} s")
        except EnvironmentFailed as failed:
            fail(chain, failed.reason, failed.detail)
        except PromptError as error:
            fail(chain, FinishReason.ERROR, str(error))

    async def settle(self, chain: Chain) -> None:
        """Score a chain that is over; one that cannot be judged has failed."""
        if chain.ended is None or not chain.ended.is_valid:
            return
        try:
            judged = await chain.session.judge() if self.table.gold.judged else {}
        except EnvironmentFailed as failed:
            fail(chain, failed.reason, failed.detail)
            return
        has_ended = chain.ended is FinishReason.STOP
        facts = EpisodeFacts(
            is_well_formed=well_formed(chain.turns),
            answer=chain.turns[-1].answer if has_ended and chain.turns else None,
            calls=chain.made,
            judged=judged,
        )
        try:
            chain.scored = score_episode(facts, self.table.gold, weights=self.table.weights)
        except ValueError as error:
            raise EpisodeFailed(FinishReason.ERROR, str(error)) from error

    async def _hear(self, chain: Chain, completion: Completion) -> None:
        if not completion.finish_reason.is_valid:
            fail(chain, completion.finish_reason, "the engine gave up")
            return
        chain.track.add_sampled(completion)
        # Help may open the first turn; the others begin as every turn does.
        prefill = self.table.continuer.prefill if chain.turns else self.prompt.prefill
        turn = read_turn(prefill + completion.text, self.table.form)
        if not chain.turns:
            chain.first_text = prefill + completion.text
        chain.turns.append(turn)
        chain.follows_tools = False
        if completion.finish_reason is not FinishReason.STOP:
            chain.ended = completion.finish_reason
        elif turn.calls:
            await self._execute(chain, turn)
        else:
            await self._next_request(chain)

    async def _next_request(self, chain: Chain) -> None:
        await chain.session.end_request()
        chain.request += 1
        later = self.table.spec.user_turns
        if chain.request > len(later):
            chain.ended = FinishReason.STOP
            return
        told = await chain.session.next_request(chain.request)
        self._show(chain, [*told, *later[chain.request - 1]])

    async def _execute(self, chain: Chain, turn: Turn) -> None:
        options = self.table.options
        chain.num_calls += len(turn.calls)
        chain.num_call_turns += 1
        too_many = options.parallel_tools and chain.num_call_turns > PARALLEL_TURNS
        if too_many or chain.num_calls > options.max_calls:
            chain.ended = FinishReason.TOOL_LIMIT
            return
        if options.parallel_tools:
            within = turn.calls[: options.parallel_calls]
            answers = await self._answers(chain, within, at_once=options.parallel_calls)
            refused = f"not executed: more than {options.parallel_calls} calls in one turn"
            answers += [Observation(refused, is_error=True)] * (len(turn.calls) - len(within))
            messages = [_together(turn.calls, answers)]
        else:
            answers = await self._answers(chain, turn.calls, at_once=1)
            messages = [_alone(*pair) for pair in zip(turn.calls, answers, strict=True)]
        self._show(chain, messages)
        chain.follows_tools = not chain.is_over

    async def _answers(
        self, chain: Chain, calls: Sequence[ToolCall | BadCall], *, at_once: int
    ) -> list[Observation]:
        good = [call for call in calls if isinstance(call, ToolCall)]
        executed = await chain.session.call_all(good, at_once=at_once)
        chain.made += [
            MadeCall(call.name, call.parameters)
            for call, answer in zip(good, executed, strict=True)
            if not answer.is_error
        ]
        by_turn = iter(executed)
        return [
            Observation(call.detail, is_error=True) if isinstance(call, BadCall) else next(by_turn)
            for call in calls
        ]

    def _show(self, chain: Chain, messages: Sequence[Message]) -> None:
        """Write what follows the policy's turn, if there is room for it and a turn after it."""
        if len(chain.turns) >= self.table.options.max_turns:
            chain.ended = FinishReason.MAX_TURNS
            return
        given = self.table.continuer.after(
            self._dialogue, self._tools, messages, last_token=chain.track.token_ids[-1]
        )
        if len(chain.track.token_ids) + len(given) >= self.table.max_tokens:
            chain.ended = FinishReason.LENGTH
            return
        chain.track.add_given(given)


def fail(chain: Chain, reason: FinishReason, detail: str) -> None:
    """End a chain by infrastructure's fault: it says nothing about the policy."""
    chain.ended, chain.detail, chain.scored = reason, detail, None


def _alone(call: ToolCall | BadCall, answer: Observation) -> Message:
    """One call's answer as a turn of the tool's own."""
    text = f"error: {answer.text}" if answer.is_error else answer.text
    return Message(role="tool", name=_name(call), content=text)


def _together(calls: Sequence[ToolCall | BadCall], answers: Sequence[Observation]) -> Message:
    """The answers of a turn's calls as one JSON text, in the order of the calls."""
    shown = [
        {"call": number, "name": _name(call), "error" if answer.is_error else "result": answer.text}
        for number, (call, answer) in enumerate(zip(calls, answers, strict=True), start=1)
    ]
    return Message(role="tool", name="tools", content=json.dumps(shown, ensure_ascii=False))


def _name(call: ToolCall | BadCall) -> str:
    return call.name if isinstance(call, ToolCall) else "tool"
