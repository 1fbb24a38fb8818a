"""The tiny policy and its tasks: right answers score full marks, slips do not, all reproducible."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from etude_proto.v1 import Split, TaskCreate
from etude_rollout.models.tiny import FORMAT_TAGS, make_model, write_tasks
from etude_rollout.models.tiny_tasks import (
    SUBTASKS,
    TOOL_KINDS,
    TinyTask,
    answer,
    dataset,
    draw_tasks,
)
from etude_rollout.models.warm_start import Slips, WarmStart, careless_answer, warm_start
from etude_rollout.rewards import RewardConfig, Scored, gold_from_task, score_completion
from support.rollout_parts import bare_prompter

TASKS = list(itertools.islice(draw_tasks(5), 200))
CAREFUL = Slips(format=0.0, tool_name=0.0, param_name=0.0, param_value=0.0)


def scored(tiny: TinyTask, text: str) -> Scored:
    assert tiny.task.reference is not None
    gold = gold_from_task(tiny.task.reference.model_dump(mode="json"))
    return score_completion(text, gold, config=RewardConfig(mode="parity"))


def test_right_answers_earn_everything() -> None:
    for tiny in TASKS:
        result = scored(tiny, answer(tiny.call))
        assert result.success
        assert result.total == (1.0 if tiny.call is None else 4.0)
        assert tuple(result.components) == tuple(tiny.task.subtasks)


def test_the_family_has_all_kinds_of_tasks() -> None:
    shares = [sum(len(t.task.subtasks) == n for t in TASKS) / len(TASKS) for n in (1, 3, 4)]
    assert min(shares) > 0.05
    assert {tiny.call.name for tiny in TASKS if tiny.call} == {kind.name for kind in TOOL_KINDS}


@pytest.mark.parametrize("component", SUBTASKS)
def test_a_slip_costs_its_own_component(component: str) -> None:
    rates = {"format": 0.0, "tool_name": 0.0, "param_name": 0.0, "param_value": 0.0}
    slips = Slips(**(rates | {component: 1.0}))
    rng = random.Random(0)
    needed = "param_value" if component == "param_name" else component  # a parameter to rename
    hit = [tiny for tiny in TASKS if needed in tiny.task.subtasks]
    for tiny in hit:
        result = scored(tiny, careless_answer(tiny, slips=slips, rng=rng))
        assert result.components[component] < 1.0
        earlier = SUBTASKS[: SUBTASKS.index(component)]
        # Answering in words, or calling when words are wanted, is a slip in the format too.
        kept = [name for name in earlier if name != "format"]
        assert all(result.components[name] == 1.0 for name in kept)


def test_a_careful_teacher_is_right() -> None:
    rng = random.Random(0)
    assert all(careless_answer(t, slips=CAREFUL, rng=rng) == answer(t.call) for t in TASKS)


def test_the_dataset_is_distinct_split_and_reproducible(tmp_path: Path) -> None:
    rows = dataset(seed=1, num_train=60, num_held_out=20)
    assert rows == dataset(seed=1, num_train=60, num_held_out=20)
    assert rows != dataset(seed=2, num_train=60, num_held_out=20)
    assert [row.split for row in rows] == [Split.TRAIN] * 60 + [Split.HELD_OUT] * 20
    assert len({row.model_dump_json(include={"messages", "tools"}) for row in rows}) == 80
    write_tasks(tmp_path / "deep" / "tasks.jsonl", rows)
    lines = (tmp_path / "deep" / "tasks.jsonl").read_text(encoding="utf-8").splitlines()
    assert [TaskCreate.model_validate_json(line) for line in lines] == rows


def test_text_survives_the_tokenizer_and_is_short(policy_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    prompter = bare_prompter(tokenizer)
    for tiny in TASKS:
        text = answer(tiny.call)
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert len(ids) <= 48
        assert len(prompter.render(tiny.task.messages, tiny.task.tools).token_ids) <= 96
    for tag in FORMAT_TAGS:
        assert len(tokenizer.encode(tag, add_special_tokens=False)) == 1


def test_words_are_one_token_in_prompt_and_answer(policy_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    words = {kind.name for kind in TOOL_KINDS}
    words |= {name for kind in TOOL_KINDS for slot in kind.slots for name in slot.names}
    words |= {str(v) for kind in TOOL_KINDS for slot in kind.slots for v in slot.values}
    for word in sorted(words):
        assert len(tokenizer.encode(f'"{word}"', add_special_tokens=False)) == 3, word


def test_the_model_is_made_alike_every_time(policy_dir: Path, tmp_path: Path) -> None:
    make_model(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (policy_dir / name).read_bytes()


def test_the_warm_up_learns(tmp_path: Path) -> None:
    make_model(tmp_path)
    losses: list[float] = []
    config = WarmStart(num_steps=30, batch_size=8, careful_share=1.0)
    facts = warm_start(tmp_path, config=config, on_step=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.5 * losses[0]
    assert facts["loss"] == pytest.approx(losses[-1], abs=1e-4)


def test_slips_may_differ_from_task_to_task(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    asked: list[TinyTask] = []

    def slips_of(tiny: TinyTask) -> Slips:
        asked.append(tiny)
        return CAREFUL

    config = WarmStart(num_steps=2, batch_size=3, careful_share=0.5)
    warm_start(tmp_path / "model", config=config, slips_of=slips_of)
    stream = list(itertools.islice(draw_tasks(config.seed + 1_000_003), 6))
    assert [tiny.task for tiny in asked] == [tiny.task for tiny in stream], "also while careful"
