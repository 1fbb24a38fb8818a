"""The pure parts of `Curriculum`: rollouts, rows, reports."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_client.curriculum import Batch, Item, Rollout, Rows
from etude_client.curriculum.entries import Entry
from etude_client.curriculum.reporting import entries_of, made_of
from etude_client.curriculum.rollouts import outcome_of, rollout_of
from etude_client.curriculum.rows import read_rows
from etude_proto.v1 import (
    Call,
    CallsReference,
    Lease,
    Message,
    PolicyVersionRequest,
    Report,
    Split,
    TaskCreate,
    task_id,
)

UNIT = st.floats(0.0, 1.0)


def task(text: str, *subtasks: str) -> TaskCreate:
    return TaskCreate(messages=[Message(role="user", content=text)], subtasks=list(subtasks))


def lease(name: str) -> Lease:
    return Lease(id=name, run_id="run_1", fence=7, deadline_ms=0, ttl_s=60.0)


@given(st.dictionaries(st.sampled_from(["format", "name", "value"]), UNIT, min_size=1))
def test_components_add_up(components: dict[str, float]) -> None:
    rollout = rollout_of(components, list(components))
    assert rollout.reward == pytest.approx(sum(components.values()))
    assert rollout.is_success is all(value >= 1 - 1e-6 for value in components.values())
    assert outcome_of(rollout).components == components


def test_a_number_is_the_only_component() -> None:
    assert rollout_of(0.25, ["answer"]) == Rollout(0.25, {"answer": 0.25})
    assert rollout_of(1.0, []).is_success
    assert not rollout_of(0.999, []).is_success
    with pytest.raises(ValueError, match="sub-tasks format, answer: give a value for each"):
        rollout_of(0.5, ["format", "answer"])


@pytest.mark.parametrize(
    ("reward", "components"),
    [(float("nan"), {}), (float("inf"), {}), (1.0, {"a": 1.5}), (1.0, {"a": -0.1})],
)
def test_numbers_that_make_no_sense(reward: float, components: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Rollout(reward, components)


def test_what_is_said_outranks_what_is_guessed() -> None:
    assert Rollout(0.0, {"answer": 0.0}, success=True).is_success
    assert Rollout(3.0, {"answer": 0.999_999_9}).is_success


def test_rows_of_one_content_are_one_task() -> None:
    rows = Rows([task("a"), task("b"), task("a"), task("c")])
    assert rows.num_duplicates == 1
    drawn = rows.uniform(9, chance=random.Random(0), num_rollouts=4)
    assert sorted(item.index or 0 for item in drawn) == [0, 1, 3]
    assert {rows.index(item.task_id) for item in drawn} == {0, 1, 3}
    assert all(item.origin == "uniform" and item.num_rollouts == 4 for item in drawn)
    without = rows.uniform(9, chance=random.Random(0), num_rollouts=4, without=[drawn[0].task_id])
    assert drawn[0].task_id not in {item.task_id for item in without}


def test_rows_are_drawn_uniformly() -> None:
    rows = Rows([task(str(number)) for number in range(10)])
    chance, counts = random.Random(1), [0] * 10
    for _ in range(2000):
        for item in rows.uniform(3, chance=chance, num_rollouts=2):
            counts[item.index or 0] += 1
    expected = 600
    assert sum((count - expected) ** 2 / expected for count in counts) < 27.9  # p = .001, 9 d.f.


def test_held_out_rows_are_not_drawn() -> None:
    rows = Rows([task("a").model_copy(update={"split": Split.HELD_OUT}), task("b")])
    assert [item.index for item in rows.uniform(5, chance=random.Random(0), num_rollouts=2)] == [1]


def test_rows_are_held_once_as_lines(tmp_path: Path) -> None:
    gold = CallsReference(calls=[Call(name="add", parameters={"a": 1})])
    scored = TaskCreate(messages=[Message(role="user", content="1 + 1?")], reference=gold)
    rows = read_rows([scored, task("b", "answer")])
    assert [TaskCreate.model_validate_json(line) for line in rows.lines] == [
        scored,
        task("b", "answer"),
    ]
    assert b"split" not in rows.lines[0]
    file = tmp_path / "tasks.jsonl"
    file.write_bytes(b"\n\n".join(rows.lines))
    again = read_rows(file)
    assert again.lines == rows.lines
    again.forget()
    assert (len(again), again.index(task_id(scored)), list(again.lines)) == (2, 0, [])


def test_parts_of_all_ranks_are_one_report_a_lease() -> None:
    rows = Rows([task(text, "answer") for text in "abcd"])
    drawn = rows.uniform(4, chance=random.Random(0), num_rollouts=2)
    claims = [lease("lease_1"), lease("lease_1"), lease("lease_2"), None]
    batch = Batch(
        tuple(
            Item(item.task, 2, item.index, claim, None)
            for item, claim in zip(drawn, claims, strict=True)
        ),
        policy_version=3,
    )
    names = [item.task_id for item in batch]
    parts = [
        made_of(batch, {names[0]: [1.0], names[2]: [0.0], names[3]: [1.0]}),
        made_of(batch, {names[0]: [0.0], names[1]: [0.5]}),
    ]
    entries, num_alone = entries_of(batch, parts, worker="me")
    assert num_alone == 1
    reports = {entry.lease_id: entry.body for entry in entries}
    assert set(reports) == {"lease_1", "lease_2"}
    first = reports["lease_1"]
    assert isinstance(first, Report)
    rewards = {g.task_id: [o.reward for o in g.attempts[0].outcomes] for g in first.groups}
    assert rewards == {names[0]: [1.0, 0.0], names[1]: [0.5]}
    assert len({entry.key for entry in entries}) == 2
    with pytest.raises(KeyError, match="not in this batch"):
        made_of(batch, {"task_other": [1.0]})


def test_what_is_under_way_survives_a_checkpoint() -> None:
    entry = Entry(PolicyVersionRequest(policy_version=4, metrics={"loss": 0.5}), "key-1")
    again = Entry.unpack(entry.pack())
    assert (again.body, again.key, again.lease_id) == (entry.body, "key-1", "")
