"""What every task is rolled out with: the engine, how prompts are shown, what the run says.

Made by `service.py` and `batch.py`; used by `rolling.py` for single turns and by `turns/` for
episodes of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etude_proto.v1 import FinishReason, Message, RewardSpec, Tool

from .engines.base import Engine, Sampling
from .phases import EpisodeFailed
from .prompting import Prompt, Prompter, PromptError

LATE_S = 5.0
"""How much longer than a group's time an engine may take to say what is late (our choice)."""


@dataclass(frozen=True, slots=True)
class EpisodeOptions:
    """How every group of this worker is made."""

    sampling: Sampling
    seed: int
    max_prompt_tokens: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What the run and the prompt batch say about its groups."""

    run_seed: int
    reward: RewardSpec
    component_weights: Mapping[str, float]
    policy_version: int
    """The run's version when the batch was leased; its steps start at 1."""
    wants_completions: bool = False
    """Whether a right completion of each group is reported with its text."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What every task is rolled out with."""

    engine: Engine
    prompter: Prompter
    options: EpisodeOptions

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        appended: str = "",
        prefix: str = "",
    ) -> Prompt:
        """A prompt that the policy is shown; arguments as of `Prompter.render`.

        Raises:
            EpisodeFailed: the model cannot be shown the task, or it is too long.
        """
        try:
            prompt = self.prompter.render(messages, tools, appended=appended, prefix=prefix)
        except PromptError as error:
            raise EpisodeFailed(FinishReason.ERROR, str(error)) from error
        longest = self.options.max_prompt_tokens
        if len(prompt.token_ids) > longest:
            raise EpisodeFailed(
                FinishReason.ERROR,
                f"the prompt has {len(prompt.token_ids)} tokens, more than {longest}",
            )
        return prompt
