"""Tasks and policy of the comparison on a real learner: difficulty that varies, on purpose.

The family is that of `etude_rollout.models.tiny_tasks`. The policy learns it from a teacher whose
slips depend on the tool that is asked for, so that at the start some kinds of tasks are mastered,
some are mixed and some nearly always fail. A few tasks ask for what their gold denies: nobody can
learn them. All of this is our choice. Used by `real_learner.py`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from etude_proto.v1 import CallsReference, Split, TaskCreate
from etude_rollout.models.tiny import make_model
from etude_rollout.models.tiny_tasks import TOOL_KINDS, TinyTask, draw_tasks
from etude_rollout.models.warm_start import Slips, WarmStart, warm_start

MIX = {"known": 0.40, "mixed": 0.30, "hard": 0.25, "mislabelled": 0.05}
"""Shares of the training tasks."""
HELD_OUT_SEED = 987_654_321
"""Seed of the tasks that success is measured on; the same for every arm and seed."""
POLICY_SEED = 0


class Grade(StrEnum):
    """How well the policy does on a kind of task before it is trained."""

    KNOWN = "known"
    MIXED = "mixed"
    HARD = "hard"


_HARD = ("taxi", "light", "invite")
_KNOWN = ("news", "mute", "weather")
SLIPS = {
    Grade.KNOWN: Slips(format=0.01, tool_name=0.02, param_name=0.02, param_value=0.02),
    Grade.MIXED: Slips(format=0.05, tool_name=0.2, param_name=0.25, param_value=0.3),
    Grade.HARD: Slips(format=0.1, tool_name=0.3, param_name=0.5, param_value=0.5),
}
"""The teacher's rates: about .95, .4 and .04 of its answers are right."""


def grade(tiny: TinyTask) -> Grade:
    """The grade of a task, by the tool that it asks for."""
    if tiny.call is None or tiny.call.name in _KNOWN:
        return Grade.KNOWN
    return Grade.HARD if tiny.call.name in _HARD else Grade.MIXED


def make_policy(directory: Path) -> Path:
    """The warmed-up policy, made once; the same bytes wherever it is made."""
    if not (directory / "warm_start.json").is_file():
        make_model(directory, seed=POLICY_SEED)
        warm_start(directory, config=WarmStart(), slips_of=lambda tiny: SLIPS[grade(tiny)])
    return directory


def _distinct(seed: int) -> Iterator[TinyTask]:
    seen: set[str] = set()
    for tiny in draw_tasks(seed):
        key = tiny.task.model_dump_json(include={"messages", "tools"})
        if key not in seen:
            seen.add(key)
            yield tiny


def _of_grade(stream: Iterator[TinyTask], wanted: Grade, num: int) -> list[TinyTask]:
    return list(itertools.islice((tiny for tiny in stream if grade(tiny) is wanted), num))


def _mislabelled(tiny: TinyTask, rng: random.Random) -> TaskCreate:
    """The task with a gold value that its request does not name."""
    assert tiny.call is not None
    kind = next(kind for kind in TOOL_KINDS if kind.name == tiny.call.name)
    (name, right), *rest = tiny.call.parameters.items()
    named = {right, *tiny.other_values}
    value = rng.choice([value for value in kind.slots[0].values if value not in named])
    call = tiny.call.model_copy(update={"parameters": dict([(name, value), *rest])})
    return tiny.task.model_copy(
        update={"reference": CallsReference(calls=[call]), "source": "mislabelled"}
    )


def training_tasks(seed: int, num: int) -> list[TaskCreate]:
    """`num` tasks in the shares of `MIX`; the source of each says its grade."""
    rng = random.Random(seed)
    counts = {name: round(share * num) for name, share in MIX.items()}
    rows: list[TaskCreate] = []
    for one in Grade:
        stream = _distinct(2 * seed + 17)
        found = _of_grade(stream, one, counts[one.value])
        rows += [tiny.task.model_copy(update={"source": one.value}) for tiny in found]
        if one is Grade.MIXED:
            more = _of_grade(stream, one, counts["mislabelled"])
            rows += [_mislabelled(tiny, rng) for tiny in more]
    rng.shuffle(rows)
    return rows


def held_out_tasks(num: int) -> list[TaskCreate]:
    """Tasks to measure success on, in the shares of `MIX` without the mislabelled ones."""
    sound = {one: MIX[one.value] for one in Grade}
    total = sum(sound.values())
    rows: list[TaskCreate] = []
    for one in Grade:
        found = _of_grade(_distinct(HELD_OUT_SEED), one, round(num * sound[one] / total))
        rows += [
            tiny.task.model_copy(update={"source": one.value, "split": Split.HELD_OUT})
            for tiny in found
        ]
    return rows
