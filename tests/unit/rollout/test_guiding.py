"""Demonstrations as the worker shows them: the block, its limits, what is reported and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from etude_proto.v1 import (
    CallsReference,
    Demonstration,
    FinishReason,
    PromptItem,
    ResponseReference,
    RewardSpec,
    Scaffold,
    Task,
    TaskCreate,
    Tool,
)
from etude_rollout.engines import Completion, Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.episode import EpisodeOptions, Episodes, Terms
from etude_rollout.guiding import guided, guided_block, with_completion
from etude_rollout.kit import Kit
from etude_rollout.models.tiny_tasks import draw_tasks
from etude_rollout.outcomes import outcomes_of
from etude_rollout.phases import EpisodeFailed
from etude_rollout.prompting import Prompt, Prompter, PromptOptions, load_tokenizer
from etude_rollout.rewards import Scored
from etude_rollout.rolling import Roller, Sample
from support.rollout_parts import prompt_item

TERMS = Terms(run_seed=3, reward=RewardSpec(), component_weights={}, policy_version=0)
OPTIONS = EpisodeOptions(
    sampling=Sampling(max_new_tokens=4), seed=0, max_prompt_tokens=4000, timeout_s=60.0
)
CALL = '<think> so </think>\n<tool_call>\n{"name": "send", "parameters": {"to": "a"}}\n</tool_call>'
SEND = Tool(name="send", description="Send it.", parameters={"to": {"type": "string"}})
GOLD = CallsReference.model_validate({"calls": [{"name": "send", "parameters": {"to": "a"}}]})


def row() -> TaskCreate:
    """A task with a gold call."""
    return next(task for task in (tiny.task for tiny in draw_tasks(11)) if task.tools)


def example(number: int, *, answer: str = CALL, imported: bool = False) -> Demonstration:
    """A demonstration of a number."""
    return Demonstration(
        task_id=f"task_{number:024d}",
        origin="imported" if imported else "policy",
        tools=[SEND],
        request=f"send number {number} to a",
        answer=answer,
        reference=GOLD if imported else None,
    )


def item(demonstrations: Sequence[Demonstration], *, level: int = 2) -> PromptItem:
    """A hard task."""
    return prompt_item(row()).model_copy(
        update={
            "scaffold": Scaffold(kind="few_shot", level=level),
            "demonstrations": list(demonstrations),
            "lane": "hard",
        }
    )


def roller(policy_dir: Path, of: PromptItem, *, longest: int = 4000) -> Roller:
    """Rolls a task out; nothing is generated here."""
    prompter = Prompter(load_tokenizer(policy_dir), PromptOptions())
    options = replace(OPTIONS, max_prompt_tokens=longest)
    kit = Kit(None, prompter, options)  # type: ignore[arg-type]
    return Roller(kit, of, TERMS)


def served(policy_dir: Path, of: PromptItem, *, longest: int = 4000) -> tuple[Scaffold, Prompt]:
    """What a task is served with."""
    made = roller(policy_dir, of, longest=longest)
    shown, prompt = guided(made, of, max_prompt_tokens=longest)
    return shown.scaffold, prompt


def test_the_block_shows_tools_request_and_answer_and_ends_with_the_last() -> None:
    block = guided_block([example(1), example(2)])
    lines = block.split("\n\n")
    assert lines[0] == "# Examples"
    assert "study these examples" in lines[1].lower()
    assert "same output format" in lines[1]
    assert lines[2] == "## Example 1"
    assert "1. Name: send" in lines[3]
    assert lines[4:6] == ["Request: send number 1 to a", CALL]
    assert block.endswith(CALL)


def test_removing_the_block_gives_the_bare_prompt(policy_dir: Path) -> None:
    of = item([example(1), example(2)])
    scaffold, prompt = served(policy_dir, of)
    bare = roller(policy_dir, of).prompt()
    block = guided_block(of.demonstrations)
    assert prompt.text.count(block) == 1
    assert prompt.text.replace(f"\n\n{block}", "") == bare.text
    assert (scaffold.kind, scaffold.level) == ("few_shot", 2)
    assert prompt.prefill == bare.prefill


def test_as_many_as_the_level_says(policy_dir: Path) -> None:
    many = [example(number) for number in range(4)]
    for level in (1, 2):
        scaffold, prompt = served(policy_dir, item(many, level=level))
        assert scaffold.level == level
        assert prompt.text.count("## Example") == level
        assert f"send number {level - 1} to a" in prompt.text


def test_what_does_not_fit_is_dropped_and_the_level_says_so(policy_dir: Path) -> None:
    of = item([example(1), example(2)])
    bare = len(roller(policy_dir, of).prompt().token_ids)
    one = len(served(policy_dir, item([example(1)], level=1))[1].token_ids) - bare
    two = len(served(policy_dir, of)[1].token_ids) - bare
    both = int(two / 0.35) + 1
    assert served(policy_dir, of, longest=both)[0].level == 2
    single = int(one / 0.35) + 1
    assert single > bare + one
    assert served(policy_dir, of, longest=single)[0].level == 1
    none = single - 5
    scaffold, prompt = served(policy_dir, of, longest=none)
    assert (scaffold.kind, scaffold.level) == ("none", 0)
    assert "# Examples" not in prompt.text


def test_imported_answers_are_scored_before_they_are_shown(policy_dir: Path) -> None:
    wrong = CALL.replace('"a"', '"b"')
    given = [example(1, answer=wrong, imported=True), example(2, imported=True), example(3)]
    _, prompt = served(policy_dir, item(given))
    assert "send number 1 to a" not in prompt.text
    assert "send number 2 to a" in prompt.text
    assert "send number 3 to a" in prompt.text
    unknown = example(4, imported=True).model_copy(update={"reference": None})
    assert served(policy_dir, item([unknown]))[0].level == 0
    broken = example(5, imported=True).model_copy(
        update={"reference": GOLD.model_copy(update={"calls": []})}
    )
    assert served(policy_dir, item([broken]))[0].level == 0


def sample(text: str, *, success: bool, finish: FinishReason = FinishReason.STOP) -> Sample:
    """A rollout that said something."""
    completion = Completion(
        text=text, token_ids=(1,), logprobs=(0.0,), versions=(0,), finish_reason=finish
    )
    scored = Scored(
        total=1.0,
        format=1.0,
        correctness=0.0,
        length=0.0,
        components={"format": 1.0},
        success=success,
        num_gold_calls=0,
        num_gold_params=0,
    )
    return Sample(Prompt((1,), "", ""), completion, scored)


def test_the_right_completion_with_the_shortest_thought_is_reported() -> None:
    said = "<think> {} </think>\n<response> yes </response>"
    samples = [
        sample(said.format("because it is"), success=True),
        sample(said.format("so"), success=False),
        sample(said.format("so it"), success=True),
        sample(said.format("so"), success=True, finish=FinishReason.ERROR),
        sample("<response> yes </response>", success=True),
        sample(said.format("\0"), success=True),
        sample(said.format("!") + " " * 3 + "x" * 20_000, success=True),
    ]
    told = with_completion(outcomes_of(samples, _task()), samples)
    texts = [one.completion for one in told]
    assert texts == [None, None, said.format("so it"), None, None, None, None]
    none = [sample(said.format("so"), success=False)]
    assert with_completion(outcomes_of(none, _task()), none)[0].completion is None


def _task() -> Task:
    return prompt_item(row()).task


async def test_a_guided_group_is_reported_as_what_was_shown(policy_dir: Path) -> None:
    engine = await TransformersEngine.open(policy_dir, num_threads=1)
    try:
        prompter = Prompter(load_tokenizer(policy_dir), PromptOptions(explain_format=False))
        episodes = Episodes(engine, prompter, OPTIONS)
        group = await episodes.run(item([example(1), example(2)]), TERMS)
        (attempt,) = group.report.attempts
        assert (attempt.scaffold_kind, attempt.scaffold_level) == ("few_shot", 2)
        bare = await episodes.run(prompt_item(row()), TERMS)
        assert group.trajectories is not None
        assert bare.trajectories is not None
        longer = len(group.trajectories.tokens_T) - len(bare.trajectories.tokens_T)
        assert longer > 4 * 50, "demonstrations are prompt tokens"
        assert group.trajectories.loss_mask_T.sum() <= 4 * 4
        said = "<think> use it </think>\n<response> sorry </response>"
        right = prompt_item(
            row().model_copy(update={"reference": ResponseReference(), "subtasks": ["format"]})
        )
        prefilled = Prompter(
            load_tokenizer(policy_dir), PromptOptions(explain_format=False, prefill=said)
        )
        options = replace(OPTIONS, sampling=Sampling(max_new_tokens=1))
        wanting = replace(TERMS, wants_completions=True)
        told = await Episodes(engine, prefilled, options).run(right, wanting)
        kept = [one for one in told.outcomes if one.completion is not None]
        assert len(kept) == (1 if any(one.success for one in told.outcomes) else 0)
        unasked = await Episodes(engine, prefilled, options).run(right, TERMS)
        assert all(one.completion is None for one in unasked.outcomes)
    finally:
        await engine.close()


def test_the_tiny_policy_knows_no_scaffold_by_another_name(policy_dir: Path) -> None:
    strange = item([]).model_copy(update={"scaffold": Scaffold(kind="strange", level=1)})
    with pytest.raises(EpisodeFailed):
        roller(policy_dir, strange)
