"""A policy that can be helped: warmed up with demonstrations and requests for its own examples.

The tiny policy follows no text that it was not trained on, so preset `toolexpander` is tried with
one whose warm-up shows, besides bare prompts, those that the preset serves: the worker's block of
demonstrations, the preset's request for examples, and both. Bare, the teacher refuses what hard
tasks ask for, whole and always alike; shown demonstrations, it tries, and slips. So a hard task
teaches nothing without help, which is ToolExpander's case, and was made to be it. All of it is our
choice. Used by `real_tasks.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from etude_proto.v1 import Call, Demonstration
from etude_rollout.guiding import guided_block
from etude_rollout.models.tiny_tasks import TOOL_KINDS, TinyTask, answer, draw_tasks
from etude_rollout.models.warm_start import IGNORED, Slips, careless_answer
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer


class Help(StrEnum):
    """What a prompt has besides the task."""

    BARE = "bare"
    SHOWN = "demonstrations"
    ASKED = "asked for examples"
    BOTH = "both"


ROWS: Mapping[Help, int] = {Help.BARE: 24, Help.SHOWN: 10, Help.ASKED: 14, Help.BOTH: 8}
"""Rows of a step."""
TWO_SHARE = 0.25
"""Share of the prompts with demonstrations that have two; seldom do two fit."""
ASK = "Make up an example and analyse it first."
"""The request for examples: the preset's own has 203 tokens here."""
CAREFUL = Slips(format=0.0, tool_name=0.0, param_name=0.0, param_value=0.0)


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps with prompts of each kind; a step's are all of one, so that bare ones are short."""

    shares: tuple[float, float, float, float]
    """Of the steps, in the order of `Help`."""
    num_steps: int
    careful_share: float
    """Share of the steps, at the beginning, in which the teacher does not slip."""
    seed: int


@dataclass(frozen=True, slots=True)
class Coaching:
    """Size of the warm-up, and what the teacher does."""

    hard_tools: tuple[str, ...]
    """Tools whose tasks it refuses where no demonstration is shown."""
    helped: Slips
    """How often it errs on them where one is."""
    slips: Mapping[str, Slips]
    """How often it errs on tasks that ask for another tool; none for what is not named."""
    refusals: float = 0.99
    """Share of the refusals at the end; the rest is tried as if demonstrations were shown."""
    example_share: float = 0.7
    """How often it makes up an example where it is asked to."""
    phases: tuple[Phase, ...] = (
        Phase((0.2, 0.35, 0.2, 0.25), num_steps=480, careful_share=0.6, seed=11),
        Phase((0.1, 0.15, 0.5, 0.25), num_steps=220, careful_share=0.5, seed=12),
    )
    learning_rate: float = 3e-3


class Teacher:
    """Makes prompts and answers, from one stream of tasks."""

    def __init__(self, coaching: Coaching, prompter: Prompter, *, seed: int) -> None:
        self._coaching, self._prompter = coaching, prompter
        self._rng = random.Random(seed)
        self._tasks = draw_tasks(seed + 1_000_003)

    def rows(self, wanted: Help, num: int, *, careful: bool) -> Iterator[tuple[list[int], int]]:
        """Token ids of prompt and answer, and the number of prompt tokens."""
        end = self._prompter.tokenizer.eos_token_id
        assert end is not None
        for _ in range(num):
            tiny = next(self._tasks)
            prompt = self._prompter.render(
                tiny.task.messages, tiny.task.tools, appended=self._appended(wanted)
            )
            text = self._answer(tiny, wanted, careful=careful)
            ids = [*prompt.token_ids, *self._prompter.encode(text), end]
            yield ids, len(prompt.token_ids)

    def _appended(self, wanted: Help) -> str:
        parts = []
        if wanted in (Help.SHOWN, Help.BOTH):
            shown = [next(self._tasks) for _ in range(1 + (self._rng.random() < TWO_SHARE))]
            parts.append(guided_block([self._demonstration(one, wanted) for one in shown]))
        if wanted in (Help.ASKED, Help.BOTH):
            parts.append(ASK)
        return "\n\n".join(parts)

    def _demonstration(self, tiny: TinyTask, wanted: Help) -> Demonstration:
        text = answer(tiny.call)
        if wanted is Help.BOTH and self._rng.random() < self._coaching.example_share:
            text = with_example(text, tiny, self._rng)
        return Demonstration(
            task_id="task_shown",
            origin="policy",
            tools=tiny.task.tools,
            request=tiny.task.messages[-1].content,
            answer=text,
        )

    def _answer(self, tiny: TinyTask, wanted: Help, *, careful: bool) -> str:
        coaching, name = self._coaching, None if tiny.call is None else tiny.call.name
        slips = coaching.slips.get(name or "", CAREFUL)
        text = None
        if name in coaching.hard_tools:
            slips = coaching.helped
            alone = wanted in (Help.BARE, Help.ASKED)
            if alone and (careful or self._rng.random() < coaching.refusals):
                text = answer(None)
        if text is None:
            text = careless_answer(tiny, slips=CAREFUL if careful else slips, rng=self._rng)
        asked = wanted in (Help.ASKED, Help.BOTH)
        if asked and self._rng.random() < coaching.example_share:
            text = with_example(text, tiny, self._rng)
        return text


def with_example(text: str, tiny: TinyTask, rng: random.Random) -> str:
    """The answer with a valid example in its thought: a request for another tool on offer."""
    name = rng.choice(tiny.other_tools)
    kind = next(kind for kind in TOOL_KINDS if kind.name == name)
    tool = next(tool for tool in tiny.task.tools if tool.name == name)
    properties = tool.parameters["properties"]
    assert isinstance(properties, dict)
    values = [slot.draw(rng) for slot in kind.slots]
    request = rng.choice(kind.requests).format(
        *(f'"{value}"' if isinstance(value, str) else value for value in values)
    )
    call = Call(name=name, parameters=dict(zip(properties, values, strict=True)))
    line = answer(call).split("\n")[2]
    told = f"{name} is what these tools have for such a request"
    example = f"<example>\nRequest: {request}\n{line}\n</example>\n<analysis> {told} </analysis>"
    return text.replace("<think> ", f"<think> {example}\n", 1)


def coach(directory: Path, coaching: Coaching) -> float:
    """Train the policy of a folder further; returns the last loss in nats a token."""
    prompter = Prompter(load_tokenizer(directory), PromptOptions(explain_format=False))
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    loss = float("nan")
    for phase in coaching.phases:
        teacher = Teacher(coaching, prompter, seed=phase.seed)
        loss = train_phase(model, teacher, phase, learning_rate=coaching.learning_rate)
    model.save_pretrained(directory)
    return loss


def train_phase(
    model: PreTrainedModel, teacher: Teacher, phase: Phase, *, learning_rate: float
) -> float:
    """Next-token training on the teacher's answers, with the schedule of the usual warm-up."""
    num = phase.num_steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (num // 20), 1 - 0.95 * step / num)
    )
    kinds = random.Random(phase.seed + 7).choices(list(Help), weights=phase.shares, k=num)
    loss_value = float("nan")
    model.train()
    for step, wanted in enumerate(kinds):
        careful = step < phase.careful_share * num
        rows = list(teacher.rows(wanted, ROWS[wanted], careful=careful))
        ids_BT, mask_BT, labels_BT = _padded(rows)
        loss = model(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        loss_value = float(loss.detach())
        if step % 20 == 19:
            print(f"step {step + 1}: {wanted.value} {loss_value:.3f}", flush=True)
    model.eval()
    return loss_value


def _padded(
    rows: list[tuple[list[int], int]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and labels [B, T]; prompts and padding are not learned."""
    width = max(len(ids) for ids, _ in rows)
    ids_BT = torch.zeros((len(rows), width), dtype=torch.long)
    mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
    labels_BT = torch.full((len(rows), width), IGNORED)
    for row, (ids, num_prompt) in enumerate(rows):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = 1
        labels_BT[row, num_prompt : len(ids)] = torch.tensor(ids[num_prompt:])
    return ids_BT, mask_BT, labels_BT
