"""One task, rolled out with whatever prompt: render, generate, score.

For tasks without an environment: one completion is a whole rollout (`turns/` plays the others).
`episode.py` makes one roller a task; `climbing.py` comes back to it with other prompts of the same
task. Knows neither leases nor reports.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from etude_proto.v1 import FinishReason, Message, PromptItem, Reference, RewardSpec, Task, Tool

from .engines.base import (
    Completion,
    EngineError,
    EngineUnavailable,
    GenerationRequest,
)
from .kit import LATE_S, Kit, Terms
from .phases import EpisodeFailed
from .prompting import Prompt
from .rewards import (
    Gold,
    GoldError,
    RewardConfig,
    RewardConfigError,
    Scored,
    SelfExampleRules,
    gold_from_task,
    is_self_example,
    score_completion,
)

FEW_SHOT = "few_shot"
"""Scaffold that is demonstrations in the system text (`guiding.py`)."""
SHOWN_KINDS = ("noise_docs", FEW_SHOT)
"""Scaffolds that are shown from the start."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One rollout: what the policy saw, what it said, what that earned."""

    prompt: Prompt
    completion: Completion
    scored: Scored
    shaping: float = 0.0

    @property
    def is_valid(self) -> bool:
        """Whether it says something about the policy."""
        return self.completion.finish_reason.is_valid

    @property
    def is_right(self) -> bool:
        """Whether it succeeded."""
        return self.scored.success

    @property
    def text(self) -> str:
        """All of the assistant's turn."""
        return self.prompt.prefill + self.completion.text


class Roller:
    """Rolls one task out."""

    def __init__(self, kit: Kit, item: PromptItem, terms: Terms) -> None:
        """
        Raises:
            EpisodeFailed: the task has no gold, or an unusable one, or an unknown scaffold.
        """
        self._kit = kit
        self._item = item
        self._terms = terms
        self._gold, self._config = _reward(item.task, terms)
        self._messages = _messages(item)

    @property
    def messages(self) -> list[Message]:
        """The dialogue that is shown, its scaffold included."""
        return self._messages

    def prompt(
        self,
        *,
        appended: str = "",
        turns: Sequence[Message] = (),
        prefix: str = "",
    ) -> Prompt:
        """The task's prompt, with help.

        Args:
            appended: stands at the end of the system text.
            turns: follow the dialogue.
            prefix: what the assistant's turn begins with.

        Raises:
            EpisodeFailed: the model cannot be shown the task, or it is too long.
        """
        return self._kit.prompt(
            [*self._messages, *turns],
            self._item.task.tools,
            appended=appended_text(self._item, appended),
            prefix=prefix,
        )

    def seed(self, stream: str = "") -> int:
        """Seed of the group, or of one of its further streams."""
        return rollout_seed(self._kit.options.seed, self._terms.run_seed, self._item, stream=stream)

    async def sample(self, prompt: Prompt, num: int, *, stream: str) -> list[Sample]:
        """`num` rollouts of a prompt, scored.

        Raises:
            EpisodeFailed: none could be made or scored.
            EngineUnavailable: the engine is away.
        """
        completions = await self.generate(prompt, num, stream=stream)
        return self.samples(prompt, completions, await self.score(completions, prompt))

    def samples(
        self, prompt: Prompt, completions: Sequence[Completion], scores: Sequence[Scored]
    ) -> list[Sample]:
        """Completions with their scores, and the bonus of those with examples of their own."""
        bonus = bonus_rule(self._item, self._item.task.tools, self._messages)
        return [
            Sample(prompt, one, scored, bonus(prompt.prefill + one.text, scored))
            for one, scored in zip(completions, scores, strict=True)
        ]

    async def generate(
        self, prompt: Prompt, num: int, *, first: int = 0, stream: str = ""
    ) -> tuple[Completion, ...]:
        """Completions of a prompt.

        Raises:
            EpisodeFailed: too slow, or refused.
            EngineUnavailable: the engine is away.
        """
        options = self._kit.options
        request = GenerationRequest(
            prompt_ids=prompt.token_ids,
            num_completions=num,
            first=first,
            sampling=options.sampling,
            seed=self.seed(stream),
            timeout_s=options.timeout_s,
        )
        try:
            # The engine cuts off what is late and keeps the rest; this is for one that does not.
            async with asyncio.timeout(options.timeout_s + LATE_S):
                made = await self._kit.engine.generate(request)
            if all(one.finish_reason is FinishReason.TIMEOUT for one in made):
                raise TimeoutError
            return made
        except TimeoutError as error:
            raise EpisodeFailed(
                FinishReason.TIMEOUT, f"no completions within {options.timeout_s:g} s"
            ) from error
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise EpisodeFailed(FinishReason.ERROR, str(error)) from error

    async def score(self, completions: Sequence[Completion], prompt: Prompt) -> list[Scored]:
        """Scores in the order of the completions; what was prefilled counts as said.

        Raises:
            EpisodeFailed: weights or switches that do not go together.
        """
        try:
            return await asyncio.to_thread(self._score_all, completions, prompt)
        except ValueError as error:
            raise EpisodeFailed(FinishReason.ERROR, str(error)) from error

    def is_right(self, answer: str, reference: Reference) -> bool:
        """Whether an answer to another task succeeds under the run's reward."""
        return is_right_under(self._config, answer, reference)

    def _score_all(self, completions: Sequence[Completion], prompt: Prompt) -> list[Scored]:
        return [
            score_completion(
                prompt.prefill + completion.text,
                self._gold,
                config=self._config,
                component_weights=self._terms.component_weights,
                step=self._terms.policy_version + 1,
            )
            for completion in completions
        ]


def appended_text(item: PromptItem, text: str) -> str:
    """What stands at the end of the system text: `text`, and the request for own examples."""
    wanted = item.self_example
    texts = [text, "" if wanted is None else wanted.text]
    return "\n\n".join(one for one in texts if one)


def bonus_rule(
    item: PromptItem, tools: Sequence[Tool], messages: Sequence[Message]
) -> Callable[[str, Scored], float]:
    """The shaping of a rollout, by the text of its (first) turn: a bonus for valid examples."""
    wanted = item.self_example
    if wanted is None:
        return lambda text, scored: 0.0
    rules = SelfExampleRules(
        tools={tool.name: _parameters(tool.parameters) for tool in tools},
        request=last_request(messages),
        min_words=wanted.min_words,
        max_similarity=wanted.max_similarity,
    )
    bonus = wanted.bonus

    def earned(text: str, scored: Scored) -> float:
        is_formed = scored.components.get("format") == 1.0
        return bonus if is_formed and is_self_example(text, rules) else 0.0

    return earned


def is_right_under(config: RewardConfig, answer: str, reference: Reference) -> bool:
    """Whether an answer to another task succeeds; never for golds that judge episodes."""
    try:
        gold = gold_from_task(reference.model_dump(mode="json"), mode=config.mode)
        return score_completion(answer, gold, config=config).success
    except ValueError:
        return False


def rollout_seed(worker_seed: int, run_seed: int, item: PromptItem, *, stream: str = "") -> int:
    """Seed of a group: another for every draw of a task, the same when the run is repeated."""
    text = f"{worker_seed}/{run_seed}/{item.task.id}/{item.entry}"
    text += f"/{stream}" if stream else ""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def last_request(messages: Sequence[Message]) -> str:
    """What the user said last; empty if nothing."""
    return next((turn.content for turn in reversed(messages) if turn.role == "user"), "")


def _parameters(schema: Mapping[str, object]) -> frozenset[str]:
    properties = schema.get("properties", schema)
    return frozenset(properties if isinstance(properties, dict) else ())


def _messages(item: PromptItem) -> list[Message]:
    """
    Raises:
        EpisodeFailed: the scaffold is not known here.
    """
    scaffold = item.scaffold
    if scaffold.level > 0 and scaffold.kind not in SHOWN_KINDS:
        raise EpisodeFailed(
            FinishReason.ERROR, f"scaffold {scaffold.kind!r} is not known to this worker"
        )
    return list(item.task.messages if scaffold.messages is None else scaffold.messages)


def reward_config(spec: RewardSpec) -> RewardConfig:
    """The reward of a run. Raises `RewardConfigError`."""
    return RewardConfig(kind=spec.kind, mode=spec.mode, switches=tuple(spec.switches))


def _reward(task: Task, terms: Terms) -> tuple[Gold, RewardConfig]:
    """
    Raises:
        EpisodeFailed: the task has no gold, or an unusable one.
    """
    if task.reference is None:
        raise EpisodeFailed(FinishReason.ERROR, "the task has no reference to score against")
    spec = terms.reward
    try:
        config = reward_config(spec)
        return gold_from_task(task.reference.model_dump(mode="json"), mode=spec.mode), config
    except (GoldError, RewardConfigError) as error:
        raise EpisodeFailed(FinishReason.ERROR, str(error)) from error
