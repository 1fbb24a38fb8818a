"""Task ids: golden hashes, so that no release renames every task that was ever imported."""

from __future__ import annotations

import json

import pytest

from etude_proto.v1 import Message, Split, TaskCreate, task_id
from support.contract import example

GOLDEN = {
    "TaskCreate": "task_617914bdd5b8c5b3dcc100d4",
    "TaskCreate.bare": "task_dae68673063dfb4010874ab0",
    "TaskCreate.calls": "task_de7bec064d27740f3a716aaa",
    "TaskCreate.response": "task_4c472e00645b44d06206f05b",
    "TaskCreate.toolrl": "task_281939caf21c5c21767cf1e8",
}


@pytest.mark.parametrize(("name", "want"), GOLDEN.items())
def test_golden_ids(name: str, want: str) -> None:
    assert task_id(TaskCreate.model_validate_json(example(name))) == want


def test_the_question_decides() -> None:
    task = TaskCreate.model_validate_json(example("TaskCreate"))
    same = {
        "subtasks": [],
        "source": "elsewhere",
        "split": Split.HELD_OUT,
        "metadata": {"id": 1},
    }
    assert task_id(task.model_copy(update=same)) == task_id(task)
    other = [Message(role="user", content="Another question")]
    changes: list[dict[str, object]] = [{"messages": other}, {"tools": []}, {"reference": None}]
    for change in changes:
        assert task_id(task.model_copy(update=change)) != task_id(task)


def test_order_of_keys_does_not_matter_and_order_of_tools_does() -> None:
    document = json.loads(example("TaskCreate"))
    task = TaskCreate.model_validate(document)
    backwards = dict(reversed(document.items()))
    parameters = document["tools"][0]["parameters"]
    backwards["tools"][0]["parameters"] = dict(reversed(parameters.items()))
    assert task_id(TaskCreate.model_validate(backwards)) == task_id(task)
    second = {"name": "other"}
    ids = {
        task_id(TaskCreate.model_validate({**document, "tools": tools}))
        for tools in ([document["tools"][0], second], [second, document["tools"][0]])
    }
    assert len(ids) == 2


def test_text_is_hashed_as_it_is() -> None:
    texts = ["é", "e\u0301", "É", "é ", "日本", "\u2028"]
    ids = {task_id(TaskCreate(messages=[Message(role="user", content=t)])) for t in texts}
    assert len(ids) == len(texts)
    assert all(len(found) == 29 and found.startswith("task_") for found in ids)
