"""What all adapters share: reward functions as components, rows as tasks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_client.adapters.rewards import Scale, component_name
from etude_client.adapters.rows import ColumnFault, tasks_of
from etude_proto.v1 import FinishReason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy_reward", "accuracy_reward"),
        ("HttpReward.score", "http_reward_score"),
        ("org/Model-7B", "org_model_7_b"),
        ("x" * 90, "x" * 64),
    ],
)
def test_names_become_sub_tasks(name: str, expected: str) -> None:
    assert component_name(name) == expected


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a name with letters"):
        component_name("_1")


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=4),
)
def test_values_become_components(low: float, width: float, values: list[float]) -> None:
    scale = Scale(("first",), {"first": (low, low + width)})
    made = [scale.rollout([value], reward=value).components["first"] for value in values]
    for one, value in zip(made, values, strict=True):
        assert one == pytest.approx(min(max((value - low) / width, 0.0), 1.0), abs=1e-9)


def test_what_does_not_apply_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    scale = Scale(("right", "polite"), {"right": (-3.0, 3.0)}, solved_at=0.75)
    made = scale.rollout([3.0, None], reward=3.0, num_tokens=7)
    assert made.components == {"right": 1.0}
    assert made.is_success
    assert (made.reward, made.num_tokens) == (3.0, 7)
    assert not scale.rollout([3.0, 0.5], reward=3.5).is_success
    nothing = scale.rollout([math.nan, None], reward=0.0)
    assert nothing.finish_reason is FinishReason.ERROR
    assert not caplog.records
    for _ in range(2):
        assert scale.rollout([9.0, 1.0], reward=10.0).components["right"] == 1.0
    assert len(caplog.records) == 1
    assert "right returned 9, outside [-3, 3]" in caplog.text


@pytest.mark.parametrize(
    ("names", "ranges", "solved_at", "words"),
    [
        (("a", "A"), {}, 1.0, "different names"),
        (("a",), {"b": (0.0, 1.0)}, 1.0, "no reward function is named b"),
        (("a",), {"a": (1.0, 1.0)}, 1.0, r"must be \(low, high\)"),
        (("a",), {"a": (0.0, math.inf)}, 1.0, r"must be \(low, high\)"),
        (("a",), {}, 0.0, "solved_at"),
    ],
)
def test_scales_that_make_no_sense(
    names: tuple[str, ...],
    ranges: dict[str, tuple[float, float]],
    solved_at: float,
    words: str,
) -> None:
    with pytest.raises(ValueError, match=words):
        Scale(names, ranges, solved_at)


def test_prompts_are_texts_or_dialogues() -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "what is it?"}]
    rows: list[dict[str, object]] = [
        {"prompt": "1 + 1?", "from": "sums"},
        {"prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "2 + 2?"}]},
        {"prompt": [{"role": "user", "content": parts}]},
    ]
    made = tasks_of(rows, subtasks=["right"])
    assert [[turn.role for turn in task.messages] for task in made] == [
        ["user"],
        ["system", "user"],
        ["user"],
    ]
    assert "what is it?" in made[2].messages[0].content
    assert all(task.subtasks == ["right"] for task in made)
    assert tasks_of(rows[:1], source="from")[0].source == "sums"
    faults: list[tuple[dict[str, object], str]] = [
        ({"question": "x"}, "row 0 has no column 'prompt'; it has question"),
        ({"prompt": 7}, "a prompt is a text or a list of messages, not 7"),
        ({"prompt": [{"text": "x"}]}, "a message has role and content"),
        ({"prompt": []}, "messages"),
    ]
    for faulty, words in faults:
        with pytest.raises(ColumnFault, match=words):
            tasks_of([faulty])
    with pytest.raises(ColumnFault, match="row 1 has no column 'from'"):
        tasks_of(rows, source="from")
