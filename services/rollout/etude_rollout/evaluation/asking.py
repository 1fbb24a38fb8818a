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
from typing import Protocol

from etude_proto.v1 import FinishReason

from ..engines.base import Completion, EngineError, EngineUnavailable, GenerationRequest, Sampling
from ..prompting import Prompt, Prompter, PromptError
from .answers import NOT_ASKED, Answer
from .items import Benchmark, EvaluationError, Item


class Answering(Protocol):
    """What answers a prompt; engines do, and so does `oracle.GoldEngine`."""

    @property
    def name(self) -> str:
        """With its precision, as it is written into every answer."""

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and answer together; 0 where nobody knows."""

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """One completion.

        Raises:
            EngineUnavailable: the engine is away.
            EngineError: it failed on this request.
        """


@dataclass(frozen=True, slots=True)
class Terms:
    """How every item is asked."""

    sampling: Sampling
    seed: int
    concurrency: int
    timeout_s: float
    """An answer that takes longer is left open."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An item that stays open."""

    id: str
    reason: str


class Asker:
    """Asks the items of one benchmark."""

    def __init__(
        self, answering: Answering, prompter: Prompter, benchmark: Benchmark, terms: Terms
    ) -> None:
        self._answering = answering
        self._prompter = prompter
        self._benchmark = benchmark
        self._terms = terms

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
            try:
                async with asyncio.timeout(self._terms.timeout_s):
                    keep(await self._answer(item))
            except EngineUnavailable:
                raise
            except EngineError as error:
                unanswered.append(Unanswered(item.id, str(error)))
            except TimeoutError:
                reason = f"no answer within {self._terms.timeout_s:g} s"
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


def item_seed(seed: int, item_id: str) -> int:
    """Seed of one item's answer: the same whatever else is asked, and in which order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{item_id}".encode()).digest()[:4], "big")


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
