"""One task's group on a real engine: outcomes, trajectories, and what is nobody's failure."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etude_proto.tensors import decode_group, encode_group
from etude_proto.v1 import (
    FinishReason,
    PromptItem,
    Report,
    ResponseReference,
    RewardSpec,
    Scaffold,
    TaskCreate,
    ToolRLReference,
)
from etude_rollout.engines import Completion, Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.episode import EpisodeOptions, Episodes, FinishedGroup, Terms, rollout_seed
from etude_rollout.models.tiny_tasks import draw_tasks
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer
from etude_rollout.trajectories import pack
from support.rollout_parts import prompt_item

TERMS = Terms(run_seed=3, reward=RewardSpec(), component_weights={}, policy_version=0)
OPTIONS = EpisodeOptions(
    sampling=Sampling(max_new_tokens=16), seed=0, max_prompt_tokens=500, timeout_s=60.0
)


class Studio:
    """Runs episodes of the tiny policy."""

    def __init__(self, policy_dir: Path, engine: TransformersEngine) -> None:
        self.tokenizer = load_tokenizer(policy_dir)
        self.engine = engine

    async def run(
        self,
        item: PromptItem,
        *,
        terms: Terms = TERMS,
        options: EpisodeOptions = OPTIONS,
        prefill: str = "",
    ) -> FinishedGroup:
        prompter = Prompter(self.tokenizer, PromptOptions(explain_format=False, prefill=prefill))
        return await Episodes(self.engine, prompter, options).run(item, terms)


@pytest.fixture
async def studio(policy_dir: Path) -> AsyncIterator[Studio]:
    engine = await TransformersEngine.open(policy_dir, num_threads=1)
    yield Studio(policy_dir, engine)
    await engine.close()


def row(**changes: object) -> TaskCreate:
    """A task with a gold call."""
    tasks = (tiny.task for tiny in draw_tasks(11))
    return next(task for task in tasks if len(task.subtasks) == 4).model_copy(update=changes)


async def test_a_group_has_an_outcome_and_a_trajectory_for_each_rollout(studio: Studio) -> None:
    group = await studio.run(prompt_item(row(), num_rollouts=5))
    assert len(group.outcomes) == 5
    assert [set(o.components) for o in group.outcomes] == [set(row().subtasks)] * 5
    assert group.trajectories is not None
    body = encode_group(group.trajectories, Report(fence=1, groups=[group.report]))
    tensors, report = decode_group(body)
    assert report.groups == [group.report]
    for j, outcome in enumerate(group.outcomes):
        part = slice(int(tensors.cu_seqlens[j]), int(tensors.cu_seqlens[j + 1]))
        assert tensors.loss_mask_T[part].sum() == outcome.num_tokens
        assert (np.diff(tensors.loss_mask_T[part].astype(int)) >= 0).all()  # prompt, then policy
        assert outcome.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)


async def test_the_same_draw_gives_the_same_group(studio: Studio) -> None:
    first = await studio.run(prompt_item(row(), entry=1))
    again = await studio.run(prompt_item(row(), entry=1))
    other = await studio.run(prompt_item(row(), entry=2))
    assert first.trajectories is not None
    assert again.trajectories is not None
    assert other.trajectories is not None
    assert np.array_equal(first.trajectories.tokens_T, again.trajectories.tokens_T)
    assert not np.array_equal(first.trajectories.tokens_T, other.trajectories.tokens_T)


def test_seeds_depend_on_everything_that_names_a_draw() -> None:
    item = prompt_item(row())
    seeds = {
        rollout_seed(0, 0, item),
        rollout_seed(1, 0, item),
        rollout_seed(0, 1, item),
        rollout_seed(0, 0, prompt_item(row(), entry=1)),
        rollout_seed(0, 0, prompt_item(row(source="other", metadata={}), entry=2)),
    }
    assert len(seeds) == 5


async def test_a_prefill_is_scored_but_not_trained_on(studio: Studio) -> None:
    prefill = "<think> use it </think>\n<response> sorry </response>"
    item = prompt_item(row(reference=ResponseReference(), subtasks=["format"]))
    options = replace(OPTIONS, sampling=Sampling(max_new_tokens=1))
    group = await studio.run(item, options=options, prefill=prefill)
    bare = await studio.run(item, options=options)
    assert not any(o.success for o in bare.outcomes)
    assert group.trajectories is not None
    assert bare.trajectories is not None
    assert group.trajectories.loss_mask_T.sum() == bare.trajectories.loss_mask_T.sum() == 4
    assert len(group.trajectories.tokens_T) > len(bare.trajectories.tokens_T)
    ended = [o.success for o in group.outcomes if o.finish_reason is FinishReason.STOP]
    assert all(ended)  # nothing but the end of the turn was added


async def test_categories_are_scored_by_success(studio: Studio) -> None:
    group = await studio.run(prompt_item(row(subtasks=["booking", "format"])))
    for outcome in group.outcomes:
        assert outcome.components["booking"] == float(outcome.success)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"reference": None}, OPTIONS, FinishReason.ERROR),
        (
            {"reference": ToolRLReference(text="<tool_call>\nno JSON\n</tool_call>")},
            OPTIONS,
            FinishReason.ERROR,
        ),
        ({}, replace(OPTIONS, max_prompt_tokens=5), FinishReason.ERROR),
        ({}, replace(OPTIONS, timeout_s=1e-4), FinishReason.TIMEOUT),
        ({}, replace(OPTIONS, sampling=Sampling(max_new_tokens=2000)), FinishReason.ERROR),
    ],
    ids=["no gold", "bad gold", "long prompt", "timeout", "context"],
)
async def test_what_is_not_the_policys_doing_is_never_scored(
    studio: Studio, changes: dict[str, object], options: EpisodeOptions, reason: FinishReason
) -> None:
    group = await studio.run(prompt_item(row(**changes)), options=options)
    assert {o.finish_reason for o in group.outcomes} == {reason}
    assert all(o.components == {} and o.num_tokens == 0 for o in group.outcomes)
    assert group.trajectories is None
    assert len(group.outcomes) == 4


async def test_a_group_is_reported_with_what_was_done_in_time(studio: Studio) -> None:
    """One stream's first token ends a completion: some are done at once, some never in time."""
    item = prompt_item(row(), num_rollouts=8)
    whole = await studio.run(item, options=replace(OPTIONS, sampling=Sampling(max_new_tokens=1)))
    assert whole.trajectories is not None
    first = int(whole.trajectories.tokens_T[whole.trajectories.cu_seqlens[1] - 1])
    endless = Sampling(max_new_tokens=800, stop_token_ids=(first,))
    group = await studio.run(item, options=replace(OPTIONS, sampling=endless, timeout_s=0.3))
    reasons = [outcome.finish_reason for outcome in group.outcomes]
    assert reasons[0] is FinishReason.STOP
    assert set(reasons) == {FinishReason.STOP, FinishReason.TIMEOUT}
    assert group.trajectories is not None
    trained = np.add.reduceat(group.trajectories.loss_mask_T, group.trajectories.cu_seqlens[:-1])
    assert [n > 0 for n in trained] == [reason is FinishReason.STOP for reason in reasons]


async def test_an_unknown_scaffold_is_not_taken_for_a_bare_prompt(studio: Studio) -> None:
    item = prompt_item(row()).model_copy(update={"scaffold": Scaffold(kind="hint", level=2)})
    group = await studio.run(item)
    attempt = group.report.attempts[0]
    assert (attempt.scaffold_kind, attempt.scaffold_level) == ("hint", 2)
    assert {o.finish_reason for o in group.outcomes} == {FinishReason.ERROR}


async def test_the_leases_component_weights_make_the_reward(studio: Studio) -> None:
    heavy = replace(TERMS, component_weights={"format": 2.0, "tool_name": 0.5})
    item = prompt_item(row(), num_rollouts=2)
    light, weighted = await studio.run(item), await studio.run(item, terms=heavy)
    assert [o.components for o in light.outcomes] == [o.components for o in weighted.outcomes]
    for plain, heavy_outcome in zip(light.outcomes, weighted.outcomes, strict=True):
        if plain.components["format"] == 1.0:
            assert heavy_outcome.reward > plain.reward


def test_a_rollout_without_a_completion_is_its_prompt() -> None:
    done = Completion((7, 8), (-0.5, 1e-9), (3, 3), "text", FinishReason.STOP)
    packed = pack([1, 2, 3], [done, None])
    assert packed.tokens_T.tolist() == [1, 2, 3, 7, 8, 1, 2, 3]
    assert packed.loss_mask_T.tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert packed.versions_T.tolist() == [-1, -1, -1, 3, 3, -1, -1, -1]
    assert packed.logprobs_T.tolist() == [0, 0, 0, -0.5, 0, 0, 0, 0]
    assert packed.cu_seqlens.tolist() == [0, 5, 8]


def test_tasks_of_the_family_differ() -> None:
    names = {len(tiny.task.subtasks) for tiny in itertools.islice(draw_tasks(0), 100)}
    assert names == {1, 3, 4}
