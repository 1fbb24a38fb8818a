"""Reward functions as other frameworks write them, unchanged, as scorers of a group.

Three shapes: TRL's (`prompts`, `completions` and the data set's columns, one value a completion),
verl's (`data_source`, `solution_str`, `ground_truth`, `extra_info`, one completion at a time) and
OpenAI's graders (`sample`, `item`, one completion at a time). Each becomes a `Scorer`: rows and
completions in, `Rollout`s out, for `Curriculum.report`. TRL's trainer needs none of this: `trl.py`
takes its rewards where they are computed.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, cast

from ..curriculum.rollouts import Rollout
from .rewards import UNIT, Scale

Row = Mapping[str, object]
"""A row of the trainer's data."""
Completion = str | Sequence[Mapping[str, object]]
"""What the policy said: a text, or the messages of its turns."""
TrlReward = Callable[..., Sequence[float | None] | Awaitable[Sequence[float | None]]]
VerlReward = Callable[..., float | Mapping[str, object]]
Grader = Callable[[dict[str, object], dict[str, object]], float]

SCORE = "score"
"""Component of the shapes that have one value without a name."""


class Scorer(Protocol):
    """Scores completions, each of the row beside it."""

    def __call__(self, rows: Sequence[Row], completions: Sequence[Completion]) -> list[Rollout]:
        """One rollout a completion."""


def trl_rewards(
    functions: Sequence[TrlReward],
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    weights: Sequence[float] | None = None,
    solved_at: float = 1.0 - 1e-6,
    prompt: str = "prompt",
) -> Scorer:
    """Functions with TRL's signature, plain or `async`; each is a component of its name.

    Args:
        functions: called with `prompts`, `completions` and every other column by name.
        ranges, solved_at: see `Scale`.
        weights: of the functions in the reward; default 1 each, as in TRL.
        prompt: column of the prompts.

    Raises:
        ValueError: names, ranges or weights make no sense; or, when it is called, a function
            does not return one value a completion.
    """
    names = tuple(getattr(one, "__name__", type(one).__name__) for one in functions)
    scale = Scale(names, ranges or {}, solved_at)
    shares = [1.0] * len(names) if weights is None else list(weights)
    if len(shares) != len(names):
        raise ValueError(f"{len(names)} reward functions, but {len(shares)} weights")

    def score(rows: Sequence[Row], completions: Sequence[Completion]) -> list[Rollout]:
        if not completions:
            return []
        columns: dict[str, list[object]] = {
            name: [row[name] for row in rows] for name in rows[0] if name != prompt
        }
        prompts = [row.get(prompt) for row in rows]
        values_FR = []
        for name, function in zip(names, functions, strict=True):
            made = function(prompts=prompts, completions=list(completions), **columns)
            values = list(_waited_for(made))
            if len(values) != len(completions):
                raise ValueError(
                    f"reward function {name} returned {len(values)} values for "
                    f"{len(completions)} completions"
                )
            values_FR.append(values)
        return [
            scale.rollout(values, reward=_weighted(values, shares))
            for values in zip(*values_FR, strict=True)
        ]

    return score


def verl_reward(
    compute_score: VerlReward,
    *,
    components: Sequence[str] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    solved_at: float = 1.0 - 1e-6,
) -> Scorer:
    """A function with verl's signature: `compute_score(data_source, solution_str, ground_truth,
    extra_info)`, which returns a number or a mapping with `score`.

    Rows are verl's: `data_source`, `reward_model.ground_truth`, `extra_info`.

    Args:
        components: keys of the mapping that are components; default: `score` alone.
        ranges, solved_at: see `Scale`.

    Raises:
        ValueError: ranges make no sense; or, when it is called, a key is missing.
    """
    scale = Scale(tuple(components) or (SCORE,), ranges or {}, solved_at)

    def one(row: Row, completion: Completion) -> Rollout:
        gold = row.get("reward_model")
        made = compute_score(
            data_source=row.get("data_source"),
            solution_str=_text(completion),
            ground_truth=gold.get("ground_truth") if isinstance(gold, Mapping) else None,
            extra_info=row.get("extra_info"),
        )
        named = made if isinstance(made, Mapping) else {SCORE: made}
        missing = [name for name in (SCORE, *scale.names) if name not in named]
        if missing:
            raise ValueError(f"the reward function returned no {missing[0]!r}: {sorted(named)}")
        values = [float(cast("float", named[name])) for name in scale.names]
        return scale.rollout(values, reward=float(cast("float", named[SCORE])))

    return _each(one)


def openai_grader(
    grade: Grader | Mapping[str, object],
    *,
    range: tuple[float, float] = UNIT,
    solved_at: float = 1.0 - 1e-6,
) -> Scorer:
    """An OpenAI grader: a function `grade(sample, item)`, or a `string_check` as its JSON.

    `sample` has `output_text`, `output_json` (null if the text is none) and `output_tools`; `item`
    is the row. Templates of a `string_check` may name `{{sample.…}}` and `{{item.…}}`.

    Raises:
        ValueError: another kind of grader, or an operation that is not known.
    """
    scale = Scale((SCORE,), {SCORE: range}, solved_at)
    function = _string_check(grade) if isinstance(grade, Mapping) else grade

    def one(row: Row, completion: Completion) -> Rollout:
        value = float(function(_sample(completion), dict(row)))
        return scale.rollout([value], reward=value)

    return _each(one)


def _each(one: Callable[[Row, Completion], Rollout]) -> Scorer:
    def score(rows: Sequence[Row], completions: Sequence[Completion]) -> list[Rollout]:
        return [one(row, said) for row, said in zip(rows, completions, strict=True)]

    return score


def _waited_for(
    made: Sequence[float | None] | Awaitable[Sequence[float | None]],
) -> Sequence[float | None]:
    if not inspect.isawaitable(made):
        return made

    async def wait() -> Sequence[float | None]:
        return await made

    # In a thread of its own: the caller may have an event loop that runs.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()


def _weighted(values: Sequence[float | None], shares: Sequence[float]) -> float:
    return sum(
        share * value
        for share, value in zip(shares, values, strict=True)
        if value is not None and value == value  # NaN: does not apply
    )


def _text(completion: Completion) -> str:
    if isinstance(completion, str):
        return completion
    return "\n".join(str(turn.get("content") or "") for turn in completion)


def _sample(completion: Completion) -> dict[str, object]:
    text = _text(completion)
    try:
        parsed: object = json.loads(text)
    except ValueError:
        parsed = None
    turns = () if isinstance(completion, str) else completion
    tools = [call for turn in turns for call in cast("list[object]", turn.get("tool_calls") or [])]
    return {"output_text": text, "output_json": parsed, "output_tools": tools}


_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda said, wanted: said == wanted,
    "ne": lambda said, wanted: said != wanted,
    "like": lambda said, wanted: wanted in said,
    "ilike": lambda said, wanted: wanted.lower() in said.lower(),
}


def _string_check(spec: Mapping[str, object]) -> Grader:
    if spec.get("type") != "string_check":
        raise ValueError(f"graders of type {spec.get('type')!r} are not known: string_check is")
    check = _CHECKS.get(str(spec.get("operation")))
    if check is None:
        raise ValueError(f"operation must be one of {', '.join(_CHECKS)}")
    said, wanted = str(spec.get("input", "")), str(spec.get("reference", ""))

    def grade(sample: dict[str, object], item: dict[str, object]) -> float:
        scope: dict[str, object] = {"sample": sample, "item": item}
        return float(check(_filled(said, scope), _filled(wanted, scope)))

    return grade


def _filled(template: str, scope: Mapping[str, object]) -> str:
    """The template with `{{path.to.value}}` replaced.

    Raises:
        ValueError: a path leads nowhere.
    """
    parts = template.split("{{")
    text = parts[0]
    for part in parts[1:]:
        path, closed, rest = part.partition("}}")
        value: object = scope
        for name in path.strip().split("."):
            if not isinstance(value, Mapping) or name not in value:
                raise ValueError(f"the grader names {path.strip()}, which is not there")
            value = value[name]
        if not closed:
            raise ValueError(f"the grader's template {template!r} does not close its braces")
        text += (value if isinstance(value, str) else json.dumps(value)) + rest
    return text
