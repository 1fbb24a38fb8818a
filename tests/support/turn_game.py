"""One rollout of an episode whose words are given: for tests of what is made of them.

Environment, chat template and engine are real; only what the policy says is written by the test.
"""

from __future__ import annotations

from pathlib import Path

from etude_proto.v1 import FinishReason, PromptItem, TaskCreate
from etude_rollout.engines import Completion, GenerationRequest, Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.rewards.episodes import gold_of_episode
from etude_rollout.tools.opening import Environments
from etude_rollout.turns.chains import Chain
from etude_rollout.turns.continuing import Continuer
from etude_rollout.turns.options import TurnOptions
from etude_rollout.turns.playing import Player, Table
from support.rollout_parts import prompt_item
from support.tool_lessons import prompter_of


class Recorder(TransformersEngine):
    """The real engine, which also keeps what it was asked and what it made."""

    asked: list[tuple[GenerationRequest, tuple[Completion, ...]]]

    async def generate(self, request: GenerationRequest) -> tuple[Completion, ...]:
        made = await super().generate(request)
        self.asked.append((request, made))
        return made


def item_of(row: TaskCreate) -> PromptItem:
    item = prompt_item(row)
    task = item.task.model_copy(update={"environment": row.environment})
    return item.model_copy(update={"task": task})


class Game:
    """One chain, and a policy whose words are given."""

    def __init__(
        self,
        engine: TransformersEngine,
        made: Environments,
        policy_dir: Path,
        row: TaskCreate,
        options: TurnOptions,
    ) -> None:
        self.item = item_of(row)
        self.prompter = prompter_of(policy_dir)
        assert row.environment is not None
        assert row.reference is not None
        self.table = Table(
            engine=engine,
            continuer=Continuer(self.prompter),
            environments=made,
            options=options,
            form="toolrl",
            sampling=Sampling(4),
            item=self.item,
            spec=row.environment,
            dialogue=row.messages,
            gold=gold_of_episode(row.reference.model_dump(mode="json")),
            weights={},
            seed_of=lambda stream: len(stream),
            timeout_s=60.0,
            vocab_size=engine.info.vocab_size,
        )

    async def begin(self) -> Chain:
        session = await self.table.open_session()
        tools = self.table.shown_tools(session)
        prompt = self.prompter.render(self.table.dialogue, tools)
        self.player = Player(self.table, prompt, tools)
        self.chain = self.player.begin(3, session)
        return self.chain

    async def say(
        self, text: str, *, reason: FinishReason = FinishReason.STOP, version: int = 5
    ) -> None:
        """The policy says something, and ends its turn."""
        ids = self.prompter.encode(text)
        if reason is FinishReason.STOP:
            eos = self.prompter.tokenizer.eos_token_id
            assert eos is not None
            ids.append(eos)
        completion = Completion(tuple(ids), (-0.5,) * len(ids), (version,) * len(ids), text, reason)
        await self.player.hear(self.chain, completion)
        if self.chain.is_over:
            await self.player.settle(self.chain)

    @property
    def text(self) -> str:
        ids = self.chain.track.token_ids
        return self.prompter.tokenizer.decode(ids, skip_special_tokens=False)

    async def close(self) -> None:
        await self.chain.session.close()
