"""Reward functions of other frameworks, unchanged, as scorers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from etude_client.adapters.reward_functions import openai_grader, trl_rewards, verl_reward
from etude_proto.v1 import FinishReason

ROWS: list[dict[str, object]] = [
    {"prompt": "1 + 1?", "answer": "2"},
    {"prompt": "2 + 2?", "answer": "4"},
]


def right(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """As TRL's documentation has it."""
    return [float(said == want) for said, want in zip(completions, answer, strict=True)]


async def short(completions: list[str], prompts: list[str], **_: object) -> list[float | None]:
    """An asynchronous one that says nothing of the second row."""
    return [None if prompt == "2 + 2?" else 10.0 - len(said) for said, prompt in zip(
        completions, prompts, strict=True)]  # fmt: skip


def test_trl_functions_are_components() -> None:
    score = trl_rewards([right, short], ranges={"short": (0.0, 10.0)}, weights=[1.0, 0.1])
    first, second = score(ROWS, ["2", "5"])
    assert first.components == {"right": 1.0, "short": pytest.approx(0.9)}
    assert first.reward == pytest.approx(1.9)
    assert not first.is_success
    assert (second.components, second.reward) == ({"right": 0.0}, 0.0)
    assert trl_rewards([right])(ROWS, ["2", "4"])[1].is_success
    assert trl_rewards([right])([], []) == []


def test_trl_functions_that_make_no_sense() -> None:
    def silent(completions: list[str], **_: object) -> list[None]:
        return [None for _ in completions]

    (said,) = trl_rewards([silent])(ROWS[:1], ["2"])
    assert said.finish_reason is FinishReason.ERROR
    with pytest.raises(ValueError, match="1 reward functions, but 2 weights"):
        trl_rewards([right], weights=[1.0, 1.0])

    def one_too_few(completions: list[str], **_: object) -> list[float]:
        return [1.0] * (len(completions) - 1)

    with pytest.raises(ValueError, match="one_too_few returned 1 values for 2 completions"):
        trl_rewards([one_too_few])(ROWS, ["2", "4"])


def verl_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, object]
) -> dict[str, float]:
    """As verl's `reward_score` has it."""
    assert data_source == "sums"
    exact = float(solution_str == ground_truth)
    return {"score": 2 * exact - 1, "exact": exact, "bonus": float(extra_info["bonus"] == 1)}


def test_verls_function_is_a_score_or_its_parts() -> None:
    row = {
        "data_source": "sums",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"bonus": 1},
    }
    whole = verl_reward(verl_score, ranges={"score": (-1.0, 1.0)})
    good, bad = whole([row, row], ["2", "3"])
    assert (good.reward, good.components, good.is_success) == (1.0, {"score": 1.0}, True)
    assert (bad.reward, bad.components) == (-1.0, {"score": 0.0})
    parts = verl_reward(verl_score, components=["exact", "bonus"])
    turns = [{"role": "assistant", "content": "2"}]
    assert parts([row], [turns])[0].components == {"exact": 1.0, "bonus": 1.0}
    plain = verl_reward(lambda **given: float(given["solution_str"] == given["ground_truth"]))
    assert plain([row], ["2"])[0].reward == 1.0
    with pytest.raises(ValueError, match="returned no 'name'"):
        verl_reward(verl_score, components=["name"])([row], ["2"])


def test_openais_graders() -> None:
    def grade(sample: dict[str, object], item: dict[str, object]) -> float:
        return 1.0 if sample["output_json"] == {"sum": 2} and item["answer"] == "2" else 0.25

    score = openai_grader(grade)
    assert [one.reward for one in score(ROWS[:1] * 2, ['{"sum": 2}', "two"])] == [1.0, 0.25]
    check = {
        "type": "string_check",
        "name": "exact",
        "input": "{{sample.output_text}}",
        "reference": "is {{ item.answer }}!",
        "operation": "ilike",
    }
    assert [one.is_success for one in openai_grader(check)(ROWS, ["It IS 2!", "it is 2!"])] == [
        True,
        False,
    ]
    tools = openai_grader(lambda sample, _: float(len(sample["output_tools"]) == 1))  # type: ignore[arg-type]
    said = [{"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}]
    assert tools(ROWS[:1], [said])[0].is_success


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "score_model"}, "type 'score_model' are not known"),
        ({"type": "string_check", "operation": "near"}, "one of eq, ne, like, ilike"),
    ],
)
def test_graders_that_are_not_known(spec: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        openai_grader(spec)


def test_templates_must_lead_somewhere() -> None:
    spec = {"type": "string_check", "operation": "eq", "input": "{{item.gold}}", "reference": ""}
    with pytest.raises(ValueError, match=r"item\.gold, which is not there"):
        openai_grader(spec)(ROWS[:1], ["2"])
    spec["input"] = "{{item.answer"
    with pytest.raises(ValueError, match="does not close"):
        openai_grader(spec)(ROWS[:1], ["2"])
