"""Has the items of a benchmark answered by an engine, several at a time.

Each answer is judged and handed over as soon as it is there, so that whatever ends the process
loses only what was in work. An engine that goes away ends the evaluation; an item that the engine
fails on is left open for the next run: infrastructure says nothing about a model. Called by
`running.py`; `prompting.py` renders.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from etude_proto.v1 import FinishReason

from ..engines.base import EngineError, EngineUnavailable, GenerationRequest, Sampling
from ..prompting import Prompt, Prompter, PromptError
from ..tools.opening import Environments
from .answers import NOT_ASKED, Answer
from .engine_answers import Answering, item_seed
from .episodes import Episodes, PromptTooLong
from .items import Benchmark, EpisodeSpec, EvaluationError, Item


@dataclass(frozen=True, slots=True)
class Terms:
    """How every item is asked."""

    sampling: Sampling
    seed: int
    concurrency: int
    timeout_s: float
    """An answer that takes longer is left open; an episode has it for each of the user's turns."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An item that stays open."""

    id: str
    reason: str


class Asker:
    """Asks the items of one benchmark."""

    def __init__(
        self,
        answering: Answering,
        prompter: Prompter,
        benchmark: Benchmark,
        terms: Terms,
        environments: Environments,
    ) -> None:
        self._answering = answering
        self._prompter = prompter
        self._benchmark = benchmark
        self._terms = terms
        self._episodes = Episodes(answering, prompter, environments)

    async def ask(
        self, items: Sequence[Item], *, keep: Callable[[Answer], None]
    ) -> list[Unanswered]:
        """Answer all items, in their order of beginning; `keep` gets each answer once.

        Raises:
            EngineUnavailable: the engine went away; what was kept stays.
            EvaluationError: `keep` could not keep an answer.
        """
        waiting = iter(items)
        unanswered: list[Unanswered] = []
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._terms.concurrency, len(items))):
                    group.create_task(self._work(waiting, keep, unanswered))
        except* (EngineUnavailable, EvaluationError) as group_of_one:
            raise _first(group_of_one) from None
        return unanswered

    async def _work(
        self,
        waiting: Iterator[Item],
        keep: Callable[[Answer], None],
        unanswered: list[Unanswered],
    ) -> None:
        for item in waiting:
            spec = item.episode
            limit_s = self._terms.timeout_s
            if spec is not None:
                limit_s *= 1 + len(spec.environment.user_turns)
            try:
                async with asyncio.timeout(limit_s):
                    answering = (
                        self._answer(item) if spec is None else self._played(item, spec, limit_s)
                    )
                    keep(await answering)
            except EngineUnavailable:
                raise
            except EngineError as error:
                unanswered.append(Unanswered(item.id, str(error)))
            except TimeoutError:
                reason = f"no answer within {limit_s:g} s"
                unanswered.append(Unanswered(item.id, reason))

    async def _answer(self, item: Item) -> Answer:
        """
        Raises:
            EngineError: the engine failed, or stopped in the middle.
        """
        try:
            prompt = self._prompter.render(item.messages, item.tools)
        except PromptError as error:
            return self._not_asked(item, 0, f"the prompt cannot be made: {error}")
        num_prompt = len(prompt.token_ids)
        room = self._room(num_prompt)
        if room < 1:
            reason = f"the prompt's {num_prompt} tokens fill the context"
            return self._not_asked(item, num_prompt, reason)
        completion = await self._answering.answer(item, self._request(item, prompt, room))
        if completion.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
            raise EngineError(f"the answer was cut off: {completion.finish_reason}")
        text = prompt.prefill + completion.text
        verdict = self._benchmark.check(item, text)
        return Answer(
            id=item.id,
            domain=item.domain,
            split=item.split,
            text=text,
            token_ids=list(completion.token_ids),
            num_prompt_tokens=num_prompt,
            finish_reason=completion.finish_reason.value,
            engine=self._answering.name,
            is_right=verdict.is_right,
            reason=verdict.reason,
        )

    def _room(self, num_prompt: int) -> int:
        """Most tokens of an answer: as asked for, or what the context leaves."""
        context, most = self._answering.max_context, self._terms.sampling.max_new_tokens
        return min(most, context - num_prompt) if context else most

    def _request(self, item: Item, prompt: Prompt, room: int) -> GenerationRequest:
        return GenerationRequest(
            prompt_ids=prompt.token_ids,
            num_completions=1,
            sampling=replace(self._terms.sampling, max_new_tokens=room),
            seed=item_seed(self._terms.seed, item.id),
        )

    async def _played(self, item: Item, spec: EpisodeSpec, limit_s: float) -> Answer:
        """
        Raises:
            EngineError: the engine or the environment failed.
        """
        sampling, seed = self._terms.sampling, self._terms.seed
        try:
            played = await self._episodes.play(item, spec, sampling, seed=seed, timeout_s=limit_s)
        except PromptTooLong as error:
            return self._not_asked(item, error.num_tokens, str(error))
        except PromptError as error:
            return self._not_asked(item, 0, f"the prompt cannot be made: {error}")
        verdict = self._benchmark.check(item, "", played.turns)
        if verdict.is_right or played.finish_reason is FinishReason.STOP:
            reason = verdict.reason
        else:
            reason = f"{verdict.reason} ({played.finish_reason})"
        return Answer(
            id=item.id,
            domain=item.domain,
            split=item.split,
            text="",
            turns=played.turns,
            token_ids=played.token_ids,
            num_prompt_tokens=played.num_prompt_tokens,
            finish_reason=played.finish_reason.value,
            engine=self._answering.name,
            is_right=verdict.is_right,
            reason=reason,
        )

    def _not_asked(self, item: Item, num_prompt: int, reason: str) -> Answer:
        return Answer(
            id=item.id,
            domain=item.domain,
            split=item.split,
            text="",
            token_ids=[],
            num_prompt_tokens=num_prompt,
            finish_reason=NOT_ASKED,
            engine=self._answering.name,
            is_right=False,
            reason=reason,
        )


def sample(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """At most `limit` items of each domain, in the benchmark's order.

    Drawn by a hash of seed and id: a larger limit keeps the items of a smaller one.
    """
    if limit is None:
        return list(items)
    chosen: set[str] = set()
    for domain in dict.fromkeys(item.domain for item in items):
        ids = [item.id for item in items if item.domain == domain]
        ids.sort(key=lambda each: hashlib.sha256(f"sample/{seed}/{each}".encode()).digest())
        chosen.update(ids[:limit])
    return [item for item in items if item.id in chosen]


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
