"""An episode's task that a taught policy fails bare and solves with help in its first prompt.

Used by the unit tests of `turns/trying.py` and by the end-to-end check: the same words, shown by
the worker alone or by a sampler and a worker.
"""

from __future__ import annotations

from pathlib import Path

from etude_proto.v1 import Aids, Hints, Message, PromptItem, TaskCreate
from etude_rollout.turns.continuing import Continuer

from .rollout_parts import prompt_item
from .taught_policy import Lesson, new_policy, teach
from .tool_lessons import CALCULATE, answer_text, call_text, prompter_of, sum_task

EXPRESSION = "9-4"
VALUE = "5"
WRONG = answer_text("8")
HEADING = "hint"
HINTS = Hints(knowledge=["nines"], planning=["call it"])
"""Levels 1 and 5; the policy needs level 5."""
SOLUTION = f"<think> the tool can do it </think>\n{call_text(EXPRESSION).partition(chr(10))[2]}"
CUT = 20
"""Of the solution; it falls within the thought."""


def helped_task() -> TaskCreate:
    """The task with all its aids."""
    aids = Aids(hints=HINTS, solution=SOLUTION)
    return sum_task(EXPRESSION).model_copy(update={"aids": aids, "source": "helped"})


def helped_item(*, num_rollouts: int, **more: object) -> PromptItem:
    """The task as it comes in a prompt batch."""
    row = helped_task()
    item = prompt_item(row, num_rollouts=num_rollouts)
    task = item.task.model_copy(update={"environment": row.environment})
    return item.model_copy(update={"task": task, **more})


def hint_text(item: str) -> str:
    """What a level of one hint adds to the system text."""
    return f"{HEADING}\n1. {item}"


def helped_policy(directory: Path) -> Path:
    """Make the policy and teach it; returns the folder."""
    new_policy(directory)
    teach(
        directory,
        [
            *_lessons(directory, WRONG),
            *_lessons(directory, WRONG, appended=hint_text("nines")),
            *_lessons(directory, call_text(EXPRESSION), appended=hint_text("call it")),
            *_lessons(directory, SOLUTION[CUT:], prefix=SOLUTION[:CUT]),
        ],
    )
    return directory


def _lessons(directory: Path, says: str, *, appended: str = "", prefix: str = "") -> list[Lesson]:
    """What to say to the prompt with help, and, if that is a call, to what the tool answers."""
    prompter, messages = prompter_of(directory), helped_task().messages
    prompt = prompter.render(messages, [CALCULATE], appended=appended, prefix=prefix)
    taught = [Lesson(prompt.token_ids, says)]
    if "<tool_call>" in says:
        end = prompter.tokenizer.eos_token_id
        assert end is not None
        told = Message(role="tool", name="calculate", content=VALUE)
        after = Continuer(prompter).after(messages, [CALCULATE], [told], last_token=end)
        ids = (*prompt.token_ids, *prompter.encode(says), end, *after)
        taught.append(Lesson(ids, answer_text(VALUE)))
    return taught
