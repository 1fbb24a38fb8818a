"""Supervised warm-up of the tiny policy: it learns the tasks from a careless teacher.

Reinforcement learning needs rollouts that differ: a policy that never succeeds learns nothing,
one that always does has nothing to learn. So the teacher answers every task of the family, but
slips at known rates: a broken format, another tool, another tool list's parameter name, a wrong
value. The policy learns the task and the slips alike; sampled at temperature 1 its groups are
mixed in all four components, and GRPO has to tell right from wrong by reward alone. The teacher
and its rates are our choice.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etude_proto.v1 import Call

from .tiny_tasks import TinyTask, answer, draw_tasks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100
"""Label of tokens that are not learned (prompt and padding)."""
SlipsOf = Callable[[TinyTask], "Slips"]
"""How often the teacher errs on a task."""


@dataclass(frozen=True, slots=True)
class Slips:
    """How often the teacher errs, as probabilities."""

    format: float = 0.1
    """Forgets the thought's closing tag, or the newline between blocks."""
    tool_name: float = 0.2
    """Names another tool of the list, or answers in words, or calls when none fits."""
    param_name: float = 0.2
    """For each parameter: uses another list's name for it."""
    param_value: float = 0.25
    """For each parameter: gives a wrong value (the decoy, where the request has one)."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Size of the warm-up; the defaults take about half a minute of one core."""

    num_steps: int = 320
    careful_share: float = 0.75
    """Share of the steps, at the beginning, in which the teacher does not slip: copying is learned
    much faster from right answers alone."""
    batch_size: int = 32
    learning_rate: float = 8e-3
    seed: int = 1
    slips: Slips = Slips()


def careless_answer(tiny: TinyTask, *, slips: Slips, rng: random.Random) -> str:
    """What the teacher answers: right, but for its slips."""
    call = tiny.call
    if rng.random() < slips.tool_name:
        other = rng.choice((*tiny.other_tools, None))
        call = None if other is None or call is None else call.model_copy(update={"name": other})
        if tiny.call is None:
            call = Call(name=rng.choice(tiny.other_tools))
    if call is not None and tiny.call is not None:
        parameters = {
            other_name if rng.random() < slips.param_name else name: other_value
            if rng.random() < slips.param_value
            else value
            for (name, value), other_name, other_value in zip(
                call.parameters.items(), tiny.other_names, tiny.other_values, strict=True
            )
        }
        call = call.model_copy(update={"parameters": parameters})
    text = answer(call)
    if rng.random() < slips.format:
        broken = rng.choice(("\n", "</think>"))
        text = text.replace("</think>\n", broken, 1)
    return text


def _examples(
    tokenizer: PreTrainedTokenizerBase, config: WarmStart, slips_of: SlipsOf | None
) -> Iterator[tuple[list[int], int]]:
    """Token ids of prompt and answer, and the number of prompt tokens."""
    rng = random.Random(config.seed)
    num_careful = int(config.careful_share * config.num_steps) * config.batch_size
    careful = Slips(format=0.0, tool_name=0.0, param_name=0.0, param_value=0.0)
    for number, tiny in enumerate(draw_tasks(config.seed + 1_000_003)):
        usual = config.slips if slips_of is None else slips_of(tiny)
        slips = careful if number < num_careful else usual
        prompt = tokenizer.apply_chat_template(
            [message.model_dump(exclude_none=True) for message in tiny.task.messages],
            tools=[{"type": "function", "function": tool.model_dump()} for tool in tiny.task.tools],
            add_generation_prompt=True,
            tokenize=False,
        )
        text = careless_answer(tiny, slips=slips, rng=rng) + str(tokenizer.eos_token)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        yield (
            prompt_ids + tokenizer(text, add_special_tokens=False)["input_ids"],
            len(prompt_ids),
        )


def _batch(
    rows: list[tuple[list[int], int]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    import torch

    width = max(len(ids) for ids, _ in rows)
    ids_BT = torch.full((len(rows), width), pad_id)
    mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
    labels_BT = torch.full((len(rows), width), IGNORED)
    for row, (ids, num_prompt) in enumerate(rows):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = 1
        labels_BT[row, num_prompt : len(ids)] = torch.tensor(ids[num_prompt:])
    return ids_BT, mask_BT, labels_BT


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    config: WarmStart,
    on_step: Callable[[int, float], None] | None = None,
    slips_of: SlipsOf | None = None,
) -> float:
    """Next-token training on the teacher's answers; returns the last loss in nats a token."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    warm_up = max(1, config.num_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm_up, 1 - 0.95 * step / config.num_steps),
    )
    examples = _examples(tokenizer, config, slips_of)
    loss_value = float("nan")
    model.train()
    for step in range(config.num_steps):
        rows = list(itertools.islice(examples, config.batch_size))
        ids_BT, mask_BT, labels_BT = _batch(rows, int(tokenizer.pad_token_id or 0))
        loss = model(input_ids=ids_BT, attention_mask=mask_BT, labels=labels_BT).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        loss_value = float(loss.detach())
        if on_step is not None:
            on_step(step + 1, loss_value)
    model.eval()
    return loss_value


def warm_start(
    directory: Path,
    *,
    config: WarmStart = WarmStart(),
    on_step: Callable[[int, float], None] | None = None,
    slips_of: SlipsOf | None = None,
) -> dict[str, float]:
    """Train the tiny model in `directory` and save it there; returns loss and seconds.

    Args:
        slips_of: rates of slips that differ from task to task, instead of `config.slips`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    started = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model gains nothing from more
    try:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            loss = train(model, tokenizer, config=config, on_step=on_step, slips_of=slips_of)
    finally:
        torch.set_num_threads(num_threads)
    model.save_pretrained(directory)
    facts = {"loss": round(loss, 4), "seconds": round(time.monotonic() - started, 1)}
    (directory / "warm_start.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts
