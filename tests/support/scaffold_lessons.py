"""Tasks that a taught policy fails bare and solves with help, one for every scaffold.

Shared by unit tests of the ladder and by the end-to-end checks: the same words, shown by the worker
alone or by a sampler and a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etude_proto.v1 import Aids, Call, CallsReference, Hints, Message, TaskCreate, Tool
from etude_rollout.models.tiny_tasks import answer
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer

from .taught_policy import Lesson, new_policy, teach

WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {}}})
TAXI = Tool(name="taxi", parameters={"type": "object", "properties": {"city": {}}})
RIGHT = answer(Call(name="weather", parameters={"city": "Oslo"}))
WRONG = answer(None)
"""An answer in words where a call is expected: R = -3."""
NEARLY = answer(Call(name="weather", parameters={"city": "Rome"}))
"""The right call with the wrong value: R = 2."""

HINTS = Hints(knowledge=["rain"], planning=["tools", "weather"], solution=["Oslo"])
"""Levels 1, 5, 6 and 9; the policy needs level 6."""
HEADING = "hint"
SOLUTION = f"<think> {'in Oslo ' * 5}it may rain </think>\n{RIGHT.partition(chr(10))[2]}"
"""At .25 it ends within the thought; .5 falls into the call block, hence before it."""
CUTS = (36, 69)
ASK, AGAIN, SORRY = "why not", "try again", "I did not call weather"
WANTED = "show examples"
EXAMPLE = (
    "<think> <example> Request: rain in Rome\n"
    '{"name": "weather", "parameters": {"city": "Rome"}}\n'
    "</example> <analysis> rain in Rome is what the weather tool knows </analysis> </think>\n"
    + RIGHT.partition("\n")[2]
)
DOCUMENTS = ["Oslo is in the attic", "Rome is in the hall"]


def task(request: str, *, aids: Aids | None = None, context: str = "") -> TaskCreate:
    """A request for the weather in Oslo."""
    return TaskCreate(
        messages=[Message(role="user", content=f"{context}{request}")],
        tools=[WEATHER, TAXI],
        reference=CallsReference(calls=[Call(name="weather", parameters={"city": "Oslo"})]),
        subtasks=["format", "tool_name", "param_name", "param_value"],
        source=request.split()[0],
        aids=aids,
    )


HINTED = task("hints for Oslo", aids=Aids(hints=HINTS))
PREFIXED = task("prefix for Oslo", aids=Aids(solution=SOLUTION))
REFLECTED = task("reflect on Oslo")
EXEMPLIFIED = task("exemplify Oslo")
NOISY = [
    task(f"noise {n}", aids=Aids(documents=[f"{d} {n}" for d in DOCUMENTS]), context=context)
    for n, context in enumerate(f"{'; '.join(f'{d} {n}' for d in DOCUMENTS)}? " for n in range(4))
]


def hint_text(*items: str) -> str:
    """What a level of hints adds to the system text."""
    return "\n".join([HEADING, *(f"{i}. {item}" for i, item in enumerate(items, start=1))])


def turns_of(*texts: str) -> list[Message]:
    """Assistant and user in turn."""
    return [
        Message(role="user" if i % 2 else "assistant", content=text) for i, text in enumerate(texts)
    ]


def make_policy(directory: Path) -> Path:
    """The policy that fails these tasks bare and solves them with help."""
    new_policy(directory)
    prompter = Prompter(load_tokenizer(directory), PromptOptions(explain_format=False))

    def lesson(
        row: TaskCreate,
        says: str,
        *,
        turns: Sequence[Message] = (),
        appended: str = "",
        prefix: str = "",
    ) -> Lesson:
        messages = [*row.messages, *turns]
        prompt = prompter.render(messages, row.tools, appended=appended, prefix=prefix)
        return Lesson(prompt.token_ids, says)

    reflected = turns_of(NEARLY, ASK)
    lessons = [
        lesson(HINTED, WRONG),
        lesson(HINTED, WRONG, appended=hint_text("rain")),
        lesson(HINTED, WRONG, appended=hint_text("tools")),
        lesson(HINTED, RIGHT, appended=hint_text("tools", "weather")),
        lesson(HINTED, RIGHT, appended=hint_text("Oslo")),
        lesson(PREFIXED, WRONG),
        lesson(PREFIXED, " </think>\n<response> sorry </response>", prefix=SOLUTION[: CUTS[0]]),
        lesson(PREFIXED, RIGHT.partition("\n")[2], prefix=SOLUTION[: CUTS[1]]),
        lesson(REFLECTED, NEARLY),
        lesson(REFLECTED, SORRY, turns=reflected),
        lesson(REFLECTED, RIGHT, turns=[*reflected, *turns_of(SORRY, AGAIN)]),
        lesson(EXEMPLIFIED, EXAMPLE, appended=WANTED),
    ]
    teach(directory, lessons)
    return directory
