"""Rows of every known shape: recognised, converted, scored by the rewards, refused with words."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from etude_client.sources.files import file_rows, numbered_objects
from etude_proto.rows.shapes import Shape, converter, recognised
from etude_proto.rows.stream import DatasetUnusable, JsonObject, Row, RowRefused
from etude_proto.v1 import BFCLReference, CallsReference, ResponseReference, Split, TaskCreate
from etude_rollout.rewards import RewardConfig, gold_from_task, score_completion
from support.shaped_rows import CHAT, PROCESSED, PUBLISHED, ROWS, TOOLACE, XLAM

ALL = ["format", "tool_name", "param_name", "param_value"]


def convert(shape: Shape, row: JsonObject, *, mask: bool = False) -> TaskCreate:
    return converter(shape, held_out_share=0.0, mask=mask)(row)


def calls_of(task: TaskCreate) -> list[tuple[str, JsonObject]]:
    assert isinstance(task.reference, CallsReference)
    return [(call.name, dict(call.parameters)) for call in task.reference.calls]


@pytest.mark.parametrize("shape", ROWS)
def test_rows_are_recognised_and_converted(shape: Shape) -> None:
    row = ROWS[shape]
    assert recognised(row) is shape
    assert recognised({**row, "null": None}) is shape, "as a typed table has it"
    before = copy.deepcopy(row)
    task = convert(shape, row)
    assert task.messages[-1].role == "user"
    assert row == before, "a row is not changed"
    assert convert(shape, {**row, "null": None} if shape is not Shape.TASK else row) == task


def test_every_shape_but_hammer_has_a_row() -> None:
    assert set(Shape) - set(ROWS) == {Shape.HAMMER}


def scored(task: TaskCreate, calls: list[tuple[str, JsonObject]]) -> float:
    """ToolRL's reward of a completion that makes these calls."""
    assert task.reference is not None
    said = "\n".join(json.dumps({"name": name, "parameters": args}) for name, args in calls)
    text = f"<think> t </think>\n<tool_call>\n{said}\n</tool_call>"
    gold = gold_from_task(task.reference.model_dump(mode="json"))
    return score_completion(text, gold, config=RewardConfig()).total


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        (Shape.TOOLACE, TOOLACE),
        (Shape.XLAM, XLAM),
        (Shape.HAMMER, XLAM),
        (Shape.APIBANK, PROCESSED),
        (Shape.APIBANK, PUBLISHED),
        (Shape.CHAT, CHAT),
    ],
)
def test_gold_earns_what_toolrl_pays(shape: Shape, row: JsonObject) -> None:
    task = convert(shape, row)
    gold = calls_of(task)
    best = scored(task, gold)
    assert best == pytest.approx(4.0)
    assert scored(task, [(name, {}) for name, _ in gold]) < best
    assert scored(task, [("other", {})]) < best
    assert task.subtasks == ALL


def test_toolace_is_cut_at_the_first_calls() -> None:
    task = convert(Shape.TOOLACE, TOOLACE)
    assert [(one.role, one.content) for one in task.messages] == [
        ("system", "Today is 2024-05-01, Wednesday."),
        ("user", "I want to fly."),
        ("assistant", "From where?"),
        ("user", "Oslo, and what time is it?"),
    ]
    assert calls_of(task) == [
        ("Flight Search (v2)", {"from": "Oslo, (NO)", "stops": 1, "tags": ["a]", "b"]}),
        ("clock", {}),
    ]
    assert task.tools[0].parameters["properties"] == {
        "from": {"type": "string", "description": "Where to start."},
        "stops": {"type": "integer", "description": "At most."},
        "tags": {"type": "array", "items": {"type": "string"}, "description": "Any."},
    }
    assert task.source == "toolace"
    conversations = TOOLACE["conversations"]
    assert isinstance(conversations, list)
    spoken = convert(Shape.TOOLACE, {**TOOLACE, "conversations": conversations[:2]})
    assert isinstance(spoken.reference, ResponseReference)
    assert [one.role for one in spoken.messages] == ["system", "user"]


def test_masked_names_are_hidden_in_tools_and_gold_alike() -> None:
    plain, hidden = (convert(Shape.HAMMER, XLAM, mask=mask) for mask in (False, True))
    ((name, arguments),) = calls_of(hidden)
    (tool,) = hidden.tools
    assert tool.name == name
    assert name.startswith("func_")
    properties = tool.parameters["properties"]
    assert isinstance(properties, dict)
    assert list(properties) == list(arguments)
    assert list(arguments.values()) == ["Oslo"]
    assert "fly" not in hidden.model_dump_json().replace("Fly", "")
    assert hidden == convert(Shape.HAMMER, XLAM, mask=True), "the same names every time"
    assert (plain.source, hidden.metadata) == ("hammer", {"id": 3, "masked": True})
    other = convert(Shape.HAMMER, {**XLAM, "query": "Again."}, mask=True)
    assert other.tools[0].name != name


def test_api_bank_is_never_trained_on(shared_data: Path) -> None:
    num_rows = 0
    for level, want in ((1, 399), (2, 67), (3, 131)):
        path = shared_data / "api_bank" / f"level-{level}-api_processed.json"
        _, first = next(iter(numbered_objects(path)))
        assert isinstance(first, dict)
        rows = list(file_rows(path, converter(recognised(first), held_out_share=0.0)))
        assert len(rows) == want
        for row in rows:
            assert isinstance(row, Row), row
            assert row.task.split is Split.HELD_OUT
            assert row.task.metadata["evaluation_set"] == "api_bank"
            assert row.task.tools
            assert scored(row.task, calls_of(row.task)) == pytest.approx(4.0)
            num_rows += 1
    assert num_rows == 597
    processed, published = (convert(Shape.APIBANK, row) for row in (PROCESSED, PUBLISHED))
    assert [tool.name for tool in processed.tools] == ["Tell", "Ask"]
    assert [one.content for one in published.messages] == [
        "The current year is 2023.",
        "User: Tell it.\nAI: Gladly.",
    ]
    assert calls_of(published) == [("Tell", {"what": "it's"})]
    answered = convert(Shape.APIBANK, {**PUBLISHED, "expected_output": "Told."})
    assert isinstance(answered.reference, ResponseReference)


def test_the_real_toolrl_rows_are_recognised(shared_data: Path) -> None:
    for _, row in numbered_objects(shared_data / "rlla_test80.jsonl"):
        assert isinstance(row, dict)
        assert recognised(row) is Shape.RLLA


def test_trainers_rows() -> None:
    verl = convert(Shape.VERL, ROWS[Shape.VERL])
    assert (verl.metadata["answer"], verl.source, verl.split) == (
        "2",
        "openai/gsm8k",
        Split.HELD_OUT,
    )
    texts: list[JsonObject] = [
        {"prompt": "1 + 1?"},
        {"prompt": [{"role": "user", "content": "1 + 1?"}]},
        {"prompt": '[{"role": "user", "content": "1 + 1?"}]'},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}]},
    ]
    assert len({convert(Shape.TRL, row).model_dump_json() for row in texts}) == 1
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    assert convert(Shape.TRL, {"prompt": "x", "tools": json.dumps(tools)}).tools[0].name == "add"


def test_bfcl_rows_carry_their_gold() -> None:
    task = convert(Shape.BFCL, ROWS[Shape.BFCL])
    assert isinstance(task.reference, BFCLReference)
    row = {key: value for key, value in ROWS[Shape.BFCL].items() if key != "ground_truth"}
    with pytest.raises(RowRefused, match="a file of its own"):
        convert(Shape.BFCL, row)
    nothing = convert(Shape.BFCL, {**row, "id": "irrelevance_3"})
    assert isinstance(nothing.reference, ResponseReference)


@pytest.mark.parametrize(
    ("shape", "change", "pointer", "words"),
    [
        (Shape.TOOLACE, {"system": "No list."}, "/system", "no JSON list of functions"),
        (Shape.TOOLACE, {"system": '[{"name": "f"'}, "/system", "its list of functions"),
        (Shape.TOOLACE, {"system": '[{"title": "f"}]'}, "/system", "a tool with a name"),
        (Shape.TOOLACE, {"conversations": "x"}, "/conversations", "expected an array"),
        (Shape.TOOLACE, {"conversations": [{"from": "user"}]}, "/conversations/0", "text `value`"),
        (
            Shape.TOOLACE,
            {"conversations": [{"from": "user", "value": "x"}]},
            "/conversations",
            "never speaks",
        ),
        (
            Shape.TOOLACE,
            {"conversations": [{"from": "assistant", "value": "x"}]},
            "/conversations",
            "no user's turn",
        ),
        (
            Shape.TOOLACE,
            {
                "conversations": [
                    {"from": "user", "value": "x"},
                    {"from": "assistant", "value": "[clock(oops)]"},
                ]
            },
            "/conversations/1/value",
            "expected key=value",
        ),
        (
            Shape.TOOLACE,
            {
                "conversations": [
                    {"from": "user", "value": "x"},
                    {"from": "assistant", "value": "[other(a=1)]"},
                ]
            },
            "/conversations",
            "not among the tools",
        ),
        (Shape.APIBANK, {"input": ""}, "/input", "expected text"),
        (Shape.APIBANK, {"expected_output": "API-Request: Tell"}, "/expected_output", "expected ["),
        (Shape.APIBANK, {"instruction": "API descriptions:\n{"}, "/instruction", "not JSON"),
        (Shape.CHAT, {"messages": []}, "/messages", "never speaks"),
        (Shape.CHAT, {"messages": [1]}, "/messages/0", "role and content"),
        (
            Shape.CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "/messages/0/content",
            "contents are text",
        ),
        (Shape.TRL, {"prompt": []}, "/prompt", "a text or a list"),
        (Shape.TRL, {"prompt": " "}, "/prompt", "is empty"),
        (
            Shape.TRL,
            {"prompt": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
            "/prompt/0/tool_calls",
            "write it into content",
        ),
        (Shape.TRL, {"prompt": [{"role": "robot", "content": "x"}]}, "/prompt/0/role", "Input"),
        (Shape.VERL, {"data_source": "?"}, "/data_source", "should match"),
        (Shape.BFCL, {"id": "format_0"}, "/id", "no category"),
    ],
)
def test_rows_that_are_refused(shape: Shape, change: JsonObject, pointer: str, words: str) -> None:
    with pytest.raises(RowRefused) as refused:
        convert(shape, {**ROWS[shape], **change})
    assert refused.value.pointer == pointer
    assert words in refused.value.detail


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "x", "final": "y"}, r"'question', 'final'.*\"prompt\": \"question\""),
        ({"text": "x"}, "prompt=text"),
        ({"instruction": "Say x.", "input": "", "output": "x"}, "no known shape"),
        ({}, "columns none"),
    ],
)
def test_rows_that_are_not_recognised(row: JsonObject, words: str) -> None:
    with pytest.raises(DatasetUnusable, match=words):
        recognised(row)
