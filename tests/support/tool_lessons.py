"""A tiny policy that was taught to use the calculator, and the tasks that it was taught.

Real weights: it asks for the value, reads it in the tool's answer and says it. Sampled coldly it is
right; the warmer, the more often it slips. Used by unit, integration and end-to-end tests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from etude_proto.v1 import (
    CalculatorEnvironment,
    EpisodeReference,
    Message,
    PromptItem,
    TaskCreate,
    Tool,
)
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer
from etude_rollout.tools.sandbox.calculator import TOOL, evaluate
from etude_rollout.turns.continuing import Continuer
from support.rollout_parts import prompt_item
from support.taught_policy import Lesson, new_policy, teach

SUM = "3+4"
CALCULATE = Tool.model_validate(TOOL)
FIRST_PAIR = ("1+1", "5*5")
"""What the task of two calls in one turn is made of."""


def sum_task(expression: str) -> TaskCreate:
    """What is the value of an expression?"""
    return TaskCreate(
        messages=[Message(role="user", content=f"what is {expression}")],
        reference=EpisodeReference(answers=[str(evaluate(expression))]),
        subtasks=["format", "answer"],
        source="sums",
        environment=CalculatorEnvironment(),
    )


def pair_task() -> TaskCreate:
    """Two values at once: two calls in one turn."""
    first, second = FIRST_PAIR
    return TaskCreate(
        messages=[Message(role="user", content=f"what are {first} and {second}")],
        reference=EpisodeReference(answers=[pair_answer()]),
        subtasks=["format", "answer"],
        source="sums",
        environment=CalculatorEnvironment(),
    )


def pair_answer() -> str:
    """Both values."""
    return " ".join(str(evaluate(one)) for one in FIRST_PAIR)


def call_text(*expressions: str) -> str:
    """A turn that calls the calculator."""
    lines = "\n".join(
        f'{{"name": "calculate", "parameters": {{"expression": "{one}"}}}}' for one in expressions
    )
    return f"<think> use it </think>\n<tool_call>\n{lines}\n</tool_call>"


def answer_text(value: str) -> str:
    """A turn that answers."""
    return f"<think> done </think>\n<response> {value} </response>"


def prompter_of(directory: Path) -> Prompter:
    """Prompts as the tiny policy knows them."""
    return Prompter(load_tokenizer(directory), PromptOptions(explain_format=False))


def lessons(
    directory: Path, task: TaskCreate, turns: Sequence[str], answers: Sequence[Sequence[Message]]
) -> list[Lesson]:
    """What to say at every turn of an episode.

    Args:
        turns: what the policy is to say, one after another.
        answers: what it is told between them.
    """
    prompter = prompter_of(directory)
    tokenizer, continuer = prompter.tokenizer, Continuer(prompter)
    ids = list(prompter.render(task.messages, [CALCULATE]).token_ids)
    end = tokenizer.eos_token_id
    assert end is not None
    taught = []
    for number, text in enumerate(turns):
        taught.append(Lesson(tuple(ids), text))
        if number < len(answers):
            ids += [*prompter.encode(text), end]
            ids += continuer.after(task.messages, [CALCULATE], answers[number], last_token=end)
    return taught


def sum_lessons(directory: Path, expression: str) -> list[Lesson]:
    """Call, read, say."""
    value = str(evaluate(expression))
    told = Message(role="tool", name="calculate", content=value)
    turns = [call_text(expression), answer_text(value)]
    return lessons(directory, sum_task(expression), turns, [[told]])


def pair_lessons(directory: Path) -> list[Lesson]:
    """Two calls in one turn, whose results come back in one JSON text."""
    results = [
        {"call": number, "name": "calculate", "result": str(evaluate(one))}
        for number, one in enumerate(FIRST_PAIR, start=1)
    ]
    told = Message(role="tool", name="tools", content=json.dumps(results))
    turns = [call_text(*FIRST_PAIR), answer_text(pair_answer())]
    return lessons(directory, pair_task(), turns, [[told]])


def calculating_policy(directory: Path) -> Path:
    """Make the policy and teach it the sum and the pair; returns the folder."""
    new_policy(directory)
    teach(directory, [*sum_lessons(directory, SUM), *pair_lessons(directory)])
    return directory


def sum_item(expression: str, *, num_rollouts: int) -> PromptItem:
    """The task of an expression as it comes in a prompt batch."""
    row = sum_task(expression)
    item = prompt_item(row, num_rollouts=num_rollouts)
    task = item.task.model_copy(update={"environment": row.environment})
    return item.model_copy(update={"task": task})
