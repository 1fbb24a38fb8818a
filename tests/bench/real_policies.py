"""The policy of the comparison on a real learner, and its answers outside of any run.

Where weights pass from trainer to engine, and what held-out tasks and oracles are measured by.
Used by `real_cell.py` and `real_oracle.py`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from etude_proto.v1 import TaskCreate
from etude_rollout.engines.base import GenerationRequest, Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer
from etude_rollout.rewards import RewardConfig, Scored, gold_from_task, score_completion
from etude_rollout.spans import Marker, decoder
from etude_trainer.stages.learn import Learner
from etude_trainer.weight_files import publishable, write_weights


class Policies:
    """The engine, its prompts, and where weights pass from trainer to engine."""

    def __init__(self, model_dir: Path, engine: TransformersEngine, *, max_new_tokens: int) -> None:
        self.model_dir = model_dir
        self.max_new_tokens = max_new_tokens
        self.engine = engine
        tokenizer = load_tokenizer(model_dir)
        self.prompter = Prompter(tokenizer, PromptOptions(explain_format=False))
        self.marker = Marker(decoder(tokenizer))
        self._folder = tempfile.TemporaryDirectory(prefix="etude-real-")

    async def publish(self, learner: Learner, version: int) -> None:
        """Bring the engine to the learner's weights."""
        directory = Path(self._folder.name)
        write_weights(publishable(learner.policy), directory / "model.safetensors")
        await self.engine.load_weights(directory, version=version)

    async def reset(self) -> None:
        """Bring the engine back to where every cell begins."""
        await self.engine.load_weights(self.model_dir, version=0)

    async def close(self) -> None:
        """Stop the engine."""
        await self.engine.close()
        self._folder.cleanup()


async def answers(
    policies: Policies,
    tasks: Sequence[TaskCreate],
    *,
    num: int,
    temperature: float = 1.0,
    appended: str = "",
) -> list[list[Scored]]:
    """`num` scored answers to each task; the same chance every time.

    Args:
        appended: stands at the end of the system text.
    """

    async def of(number: int, task: TaskCreate) -> list[Scored]:
        assert task.reference is not None
        prompt = policies.prompter.render(task.messages, task.tools, appended=appended)
        request = GenerationRequest(
            prompt_ids=prompt.token_ids,
            num_completions=num,
            sampling=Sampling(max_new_tokens=policies.max_new_tokens, temperature=temperature),
            seed=number,
        )
        completions = await policies.engine.generate(request)
        gold = gold_from_task(task.reference.model_dump(mode="json"), mode="robust")
        config = RewardConfig(mode="robust")
        return [score_completion(one.text, gold, config=config) for one in completions]

    return await asyncio.gather(*(of(number, task) for number, task in enumerate(tasks)))
