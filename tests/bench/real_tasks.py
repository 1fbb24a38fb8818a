"""Tasks and policies of the comparison on a real learner: difficulty that varies, on purpose.

The family is that of `etude_rollout.models.tiny_tasks`. A policy learns it from a teacher whose
slips depend on the tool that is asked for, so that at the start some kinds of tasks are mastered,
some are mixed and some nearly always fail. Some tasks ask for what their gold denies: nobody can
learn them. All of this is our choice. Used by `real_learner.py`.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from real_coaching import Coaching, coach

from etude_proto.v1 import Call, CallsReference, Split, Task, TaskCreate
from etude_rollout.models.tiny import make_model
from etude_rollout.models.tiny_tasks import TOOL_KINDS, TinyTask, draw_tasks
from etude_rollout.models.warm_start import Slips, WarmStart, warm_start


class Grade(StrEnum):
    """How well the policy does on a kind of task before it is trained."""

    KNOWN = "known"
    MIXED = "mixed"
    HARD = "hard"


def _graded(*, hard: Sequence[str], mixed: Sequence[str]) -> dict[str, Grade]:
    """The grade of every tool: as told, or known."""
    told = {**dict.fromkeys(hard, Grade.HARD), **dict.fromkeys(mixed, Grade.MIXED)}
    return {kind.name: told.get(kind.name, Grade.KNOWN) for kind in TOOL_KINDS}


def drawn_grades(seed: int) -> dict[str, Grade]:
    """Three hard tools and three mixed ones, drawn of those with parameters."""
    with_parameters = [kind.name for kind in TOOL_KINDS if kind.slots]
    drawn = random.Random(seed).sample(with_parameters, 6)
    return _graded(hard=drawn[:3], mixed=drawn[3:])


_CHOSEN = _graded(hard=("taxi", "light", "invite"), mixed=("call", "play", "timer"))


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Training tasks, held-out tasks, and the policy that meets them."""

    mix: Mapping[str, float]
    """Shares of the training tasks."""
    held_out: Mapping[Grade, float]
    """Shares of the tasks that success is measured on; none is mislabelled."""
    slips: Mapping[Grade, Slips]
    """How often the teacher errs."""
    warm_start: WarmStart
    sources_say_grade: bool
    """Whether a task's source is its grade, `mislabelled` too; else the tool that it asks for."""
    denied: tuple[Grade, ...]
    """Kinds that the mislabelled tasks are made of."""
    grades: Mapping[str, Grade] = field(default_factory=lambda: _CHOSEN)
    """The grade of the tasks that ask for a tool."""
    coaching: Coaching | None = None
    """What the policy is taught after `warm_start`, if it is to follow help."""
    max_new_tokens: int = 56
    held_out_seed: int = 987_654_321
    """Seed of the tasks that success is measured on; the same for every arm and seed."""
    policy_seed: int = 0


_SKEWED_SLIPS = {
    Grade.KNOWN: Slips(format=0.0, tool_name=0.0, param_name=0.0, param_value=0.0),
    Grade.MIXED: Slips(format=0.02, tool_name=0.15, param_name=0.2, param_value=0.25),
    Grade.HARD: Slips(format=0.05, tool_name=0.25, param_name=0.5, param_value=0.6),
}
_SKEWED = TaskSet(
    mix={"known": 0.50, "mixed": 0.10, "hard": 0.15, "mislabelled": 0.25},
    held_out=dict.fromkeys(Grade, 1.0),
    slips=_SKEWED_SLIPS,
    warm_start=WarmStart(num_steps=960),
    sources_say_grade=False,
    denied=(Grade.KNOWN,),
)
_AGAIN = 2026
_EVEN = {"known": 0.40, "mixed": 0.30, "hard": 0.25, "mislabelled": 0.05}
TASK_SETS: Mapping[str, TaskSet] = {
    # Most groups are informative: .95, .4 and .04 of the teacher's answers are right.
    "even": TaskSet(
        mix=_EVEN,
        held_out={one: _EVEN[one.value] for one in Grade},
        slips={
            Grade.KNOWN: Slips(format=0.01, tool_name=0.02, param_name=0.02, param_value=0.02),
            Grade.MIXED: Slips(format=0.05, tool_name=0.2, param_name=0.25, param_value=0.3),
            Grade.HARD: Slips(format=0.1, tool_name=0.3, param_name=0.5, param_value=0.5),
        },
        warm_start=WarmStart(),
        sources_say_grade=True,
        denied=(Grade.MIXED,),
    ),
    # Three quarters teach next to nothing: half are known, a quarter is denied by its gold.
    "skewed": _SKEWED,
    # The same with all that chance decides drawn anew: which tools are hard, the policy, all tasks.
    "skewed_again": replace(
        _SKEWED,
        warm_start=WarmStart(num_steps=960, seed=_AGAIN),
        grades=drawn_grades(_AGAIN),
        held_out_seed=987_654_321 + _AGAIN,
        policy_seed=_AGAIN,
    ),
    # Hard tasks teach nothing without help: bare, the policy refuses them, always alike.
    "coached": replace(
        _SKEWED,
        mix={"known": 0.35, "mixed": 0.25, "hard": 0.30, "mislabelled": 0.10},
        coaching=Coaching(
            hard_tools=("taxi", "light", "invite"),
            helped=Slips(format=0.03, tool_name=0.15, param_name=0.25, param_value=0.25),
            slips=dict.fromkeys(("call", "play", "timer"), _SKEWED_SLIPS[Grade.MIXED]),
        ),
        max_new_tokens=124,
    ),
}
"""By name. `skewed` was fixed by looking at uniform draws and oracles alone."""


def grade(tiny: TinyTask, task_set: TaskSet) -> Grade:
    """The grade of a task, by the tool that it asks for."""
    return Grade.KNOWN if tiny.call is None else task_set.grades[tiny.call.name]


def make_policy(directory: Path, task_set: TaskSet) -> Path:
    """The warmed-up policy, made once; the same bytes wherever it is made."""
    if not (directory / "warm_start.json").is_file():
        make_model(directory, seed=task_set.policy_seed)
        slips = task_set.slips
        warm_start(
            directory,
            config=task_set.warm_start,
            slips_of=lambda tiny: slips[grade(tiny, task_set)],
        )
    coached = directory / "coaching.json"
    if task_set.coaching is not None and not coached.is_file():
        loss = coach(directory, task_set.coaching)
        coached.write_text(json.dumps({"loss": round(loss, 4)}), encoding="utf-8")
    return directory


def _distinct(seed: int) -> Iterator[TinyTask]:
    seen: set[str] = set()
    for tiny in draw_tasks(seed):
        key = tiny.task.model_dump_json(include={"messages", "tools"})
        if key not in seen:
            seen.add(key)
            yield tiny


def _of_grade(
    stream: Iterator[TinyTask], wanted: Grade, num: int, task_set: TaskSet
) -> list[TinyTask]:
    found = (tiny for tiny in stream if grade(tiny, task_set) is wanted)
    return list(itertools.islice(found, num))


def _mislabelled(tiny: TinyTask, rng: random.Random) -> CallsReference:
    """A gold that the request does not name: another value, or without values another tool."""
    assert tiny.call is not None
    if not tiny.call.parameters:
        call = Call(name=rng.choice(tiny.other_tools), parameters={})
        return CallsReference(calls=[call])
    kind = next(kind for kind in TOOL_KINDS if kind.name == tiny.call.name)
    (name, right), *rest = tiny.call.parameters.items()
    named = {right, *tiny.other_values}
    value = rng.choice([value for value in kind.slots[0].values if value not in named])
    call = tiny.call.model_copy(update={"parameters": dict([(name, value), *rest])})
    return CallsReference(calls=[call])


def _row(tiny: TinyTask, name: str, task_set: TaskSet) -> TaskCreate:
    """The task, with a source, and what it is in its metadata, which no part reads."""
    tool = "none" if tiny.call is None else tiny.call.name
    source = name if task_set.sources_say_grade else tool
    metadata = {**tiny.task.metadata, "grade": name}
    return tiny.task.model_copy(update={"source": source, "metadata": metadata})


def training_tasks(seed: int, num: int, task_set: TaskSet) -> list[TaskCreate]:
    """`num` tasks in the shares of the mix; the metadata of each says its grade and number."""
    rng = random.Random(seed)
    counts = {name: round(share * num) for name, share in task_set.mix.items()}
    rows: list[TaskCreate] = []
    denied = counts["mislabelled"] // len(task_set.denied)
    for one in Grade:
        stream = _distinct(2 * seed + 17)
        found = _of_grade(stream, one, counts[one.value], task_set)
        rows += [_row(tiny, one, task_set) for tiny in found]
        if one in task_set.denied:
            calls = (tiny for tiny in stream if tiny.call is not None)
            for tiny in _of_grade(calls, one, denied, task_set):
                gold = _mislabelled(tiny, rng)
                row = _row(tiny, "mislabelled", task_set)
                rows.append(row.model_copy(update={"reference": gold}))
    rng.shuffle(rows)
    return [
        row.model_copy(update={"metadata": {**row.metadata, "number": number}})
        for number, row in enumerate(rows)
    ]


def held_out_tasks(num: int, task_set: TaskSet) -> list[TaskCreate]:
    """About `num` tasks to measure success on."""
    total = sum(task_set.held_out.values())
    rows: list[TaskCreate] = []
    for one, share in task_set.held_out.items():
        stream = _distinct(task_set.held_out_seed)
        found = _of_grade(stream, one, round(num * share / total), task_set)
        rows += [
            _row(tiny, one, task_set).model_copy(update={"split": Split.HELD_OUT}) for tiny in found
        ]
    return rows


def grade_of(task: TaskCreate | Task) -> str:
    """What the metadata says."""
    return str(task.metadata["grade"])
