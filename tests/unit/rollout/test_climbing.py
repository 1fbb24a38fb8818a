"""Ladders and reflections on a policy that needs them: attempts, the merged group, its tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etude_proto.tensors import decode_group, encode_group
from etude_proto.v1 import (
    FinishReason,
    Ladder,
    Merge,
    PromptItem,
    Report,
    RewardSpec,
    Rung,
    Scaffold,
    SelfExample,
    TaskCreate,
)
from etude_rollout.engines import Completion, Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.episode import EpisodeOptions, Episodes, FinishedGroup, Terms
from etude_rollout.prompting import Prompt, Prompter, PromptOptions, load_tokenizer
from etude_rollout.replacing import replace_one
from etude_rollout.rewards import Scored
from etude_rollout.rolling import Sample
from support import scaffold_lessons as lessons
from support.rollout_parts import prompt_item
from support.taught_policy import COLD

TERMS = Terms(run_seed=3, reward=RewardSpec(), component_weights={}, policy_version=0)
OPTIONS = EpisodeOptions(
    sampling=Sampling(max_new_tokens=112, temperature=COLD),
    seed=0,
    max_prompt_tokens=500,
    timeout_s=60.0,
)
G = 4


class Studio:
    """Runs episodes of the taught policy."""

    def __init__(self, policy_dir: Path, engine: TransformersEngine) -> None:
        self.tokenizer = load_tokenizer(policy_dir)
        self.engine = engine

    async def run(self, item: PromptItem, options: EpisodeOptions = OPTIONS) -> FinishedGroup:
        prompter = Prompter(self.tokenizer, PromptOptions(explain_format=False))
        group = await Episodes(self.engine, prompter, options).run(item, TERMS)
        assert group.trajectories is not None
        encode_group(group.trajectories, Report(fence=1, groups=[group.report]))  # they agree
        return group

    def said(self, group: FinishedGroup, number: int) -> tuple[str, str]:
        """Prompt and completion of a trajectory, as text."""
        cargo = group.trajectories
        assert cargo is not None
        part = slice(int(cargo.cu_seqlens[number]), int(cargo.cu_seqlens[number + 1]))
        tokens, is_sampled = cargo.tokens_T[part], cargo.loss_mask_T[part] == 1
        assert np.all(np.diff(is_sampled.astype(int)) >= 0), "a prompt, then what was said"
        shown, said = tokens[~is_sampled].tolist(), tokens[is_sampled].tolist()
        return (
            self.tokenizer.decode(shown, skip_special_tokens=False),
            self.tokenizer.decode(said, skip_special_tokens=True),
        )


@pytest.fixture(scope="module")
def taught_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lessons.make_policy(tmp_path_factory.mktemp("taught") / "policy")


@pytest.fixture
async def studio(taught_dir: Path) -> AsyncIterator[Studio]:
    engine = await TransformersEngine.open(taught_dir, num_threads=1)
    yield Studio(taught_dir, engine)
    await engine.close()


def item(row: TaskCreate, **more: object) -> PromptItem:
    return prompt_item(row, num_rollouts=G).model_copy(update=more)


def hints(*, at_once: bool = False) -> Ladder:
    levels = {1: ["rain"], 5: ["tools"], 6: ["tools", "weather"], 9: ["Oslo"]}
    rungs = [Rung(level=n, text=lessons.hint_text(*texts)) for n, texts in levels.items()]
    return Ladder(
        kind="hints", merge=Merge.REPLACE_ONE, num_rollouts=1, at_once=at_once, rungs=rungs
    )


def keys(group: FinishedGroup) -> list[tuple[str, int, int, bool]]:
    return [
        (a.scaffold_kind, a.scaffold_level, sum(o.success for o in a.outcomes), a.merged)
        for a in group.report.attempts
    ]


async def test_the_least_hint_that_helps_joins_the_group(studio: Studio) -> None:
    group = await studio.run(item(lessons.HINTED, ladder=hints()))
    assert keys(group) == [
        ("none", 0, 0, False),
        ("hints", 1, 0, False),
        ("hints", 5, 0, False),
        ("hints", 6, 1, False),
        ("hints", 6, 1, True),
    ]
    merged = group.report.attempts[-1]
    assert [a.number for a in group.report.attempts] == [0, 0, 0, 0, 1]
    assert len(merged.outcomes) == G
    assert len(group.outcomes) == G + 3, "every rollout that was made is counted once"
    (place,) = [j for j, outcome in enumerate(merged.outcomes) if outcome.success]
    for j in range(G):
        prompt, said = studio.said(group, j)
        assert ("hint\n1. tools\n2. weather" in prompt) == (j == place), "each its own prompt"
        assert said == (lessons.RIGHT if j == place else lessons.WRONG)


async def test_all_levels_at_once_give_the_same_group(studio: Studio) -> None:
    one_by_one = await studio.run(item(lessons.HINTED, ladder=hints()))
    at_once = await studio.run(item(lessons.HINTED, ladder=hints(at_once=True)))
    assert [key[1] for key in keys(at_once)] == [0, 1, 5, 6, 9, 6]
    assert [key[2] for key in keys(at_once)] == [0, 0, 0, 1, 1, 1]
    assert at_once.report.attempts[-1] == one_by_one.report.attempts[-1]


async def test_without_any_success_the_bare_group_stays(studio: Studio) -> None:
    ladder = hints().model_copy(update={"rungs": hints().rungs[:2]})
    group = await studio.run(item(lessons.HINTED, ladder=ladder))
    assert keys(group) == [
        ("hints", 1, 0, False),
        ("hints", 5, 0, False),
        ("none", 0, 0, False),
    ]
    assert group.trajectories is not None
    assert group.trajectories.num_rollouts == G
    assert "hint" not in studio.said(group, 0)[0].replace("hints for", "")


async def test_a_group_with_a_success_does_not_climb(studio: Studio) -> None:
    easy = await studio.run(
        item(lessons.EXEMPLIFIED, ladder=hints(), self_example=wanted(bonus=0.01))
    )
    assert keys(easy) == [("none", 0, G, False)]


async def test_other_messages_are_an_attempt_of_their_own(studio: Studio) -> None:
    """The served scaffold, not the bare task, is what a ladder begins from."""
    shown = Scaffold(kind="noise_docs", level=1, messages=lessons.REFLECTED.messages)
    group = await studio.run(item(lessons.HINTED, scaffold=shown))
    assert keys(group) == [("noise_docs", 1, 0, False)]
    assert "reflect on Oslo" in studio.said(group, 0)[0]
    climbed = await studio.run(item(lessons.HINTED, scaffold=shown, ladder=hints()))
    assert [key[0] for key in keys(climbed)].count("noise_docs") == 1
    assert "none" not in [key[0] for key in keys(climbed)]


async def test_rungs_that_are_too_long_are_left_out(studio: Studio) -> None:
    bare = await studio.run(item(lessons.HINTED))
    assert bare.trajectories is not None
    length = int(bare.trajectories.cu_seqlens[1]) - bare.outcomes[0].num_tokens
    short = replace(OPTIONS, max_prompt_tokens=length)
    group = await studio.run(item(lessons.HINTED, ladder=hints()), short)
    assert keys(group) == [("none", 0, 0, False)]


async def test_the_first_prefix_that_helps_replaces_the_group(studio: Studio) -> None:
    rungs = [
        Rung(level=level, text=lessons.SOLUTION[:cut])
        for level, cut in enumerate((*lessons.CUTS, lessons.CUTS[1]), start=1)
    ]
    ladder = Ladder(kind="prefix", merge=Merge.REPLACE_ALL, num_rollouts=G, rungs=rungs)
    group = await studio.run(item(lessons.PREFIXED, ladder=ladder))
    assert keys(group) == [
        ("none", 0, 0, False),
        ("prefix", 1, 0, False),
        ("prefix", 2, G, False),
    ]
    prompt, said = studio.said(group, 0)
    assert prompt.endswith(lessons.SOLUTION[: lessons.CUTS[1]]), "what was shown is not trained"
    assert said == lessons.RIGHT.partition("\n")[2]
    assert all(outcome.components["format"] == 1 for outcome in group.report.attempts[-1].outcomes)


async def test_turns_of_a_trace_stand_before_the_answer(studio: Studio) -> None:
    turns = lessons.turns_of(lessons.NEARLY, lessons.ASK, lessons.SORRY, lessons.AGAIN)
    ladder = Ladder(
        kind="prefix",
        merge=Merge.REPLACE_ALL,
        num_rollouts=2,
        rungs=[Rung(level=1, turns=turns)],
    )
    group = await studio.run(item(lessons.REFLECTED, ladder=ladder))
    assert keys(group) == [("none", 0, 0, False), ("prefix", 1, 2, False)]


def reflections(num: int) -> Ladder:
    rungs = [Rung(level=n, text=lessons.ASK, again=lessons.AGAIN) for n in range(1, num + 1)]
    return Ladder(kind="reflect", merge=Merge.APPEND_TURN, num_rollouts=1, rungs=rungs)


async def test_planners_and_reflectors_have_their_own_rewards(studio: Studio) -> None:
    """R(first) = 2, R(second) = 4: planners earn 4, reflectors 2."""
    group = await studio.run(item(lessons.REFLECTED, ladder=reflections(2)))
    assert keys(group) == [
        ("none", 0, 0, False),
        ("reflect", 1, G, False),
        ("reflect", 1, 2 * G, True),
    ]
    first, second, merged = group.report.attempts
    assert {outcome.reward for outcome in first.outcomes} == {2.0}
    assert {outcome.reward for outcome in second.outcomes} == {4.0}
    planners, reflectors = merged.outcomes[:G], merged.outcomes[G:]
    assert {(o.role, o.reward + o.shaping) for o in planners} == {("planner", 4.0)}
    assert {(o.role, o.reward + o.shaping) for o in reflectors} == {("reflector", 2.0)}
    spent = reflectors[0].num_tokens + planners[0].num_tokens
    assert second.outcomes[0].num_tokens == spent, "the reflection is part of what it cost"
    prompt, said = studio.said(group, 0)
    assert said == lessons.RIGHT
    assert prompt.index(lessons.NEARLY) < prompt.index(lessons.SORRY) < prompt.index(lessons.AGAIN)
    prompt, said = studio.said(group, G)
    assert said == lessons.SORRY
    assert prompt.index(lessons.NEARLY) < prompt.index(lessons.ASK)
    assert lessons.AGAIN not in prompt


async def test_attempts_end_with_the_rungs(studio: Studio) -> None:
    """Asked for another answer without having failed before, the policy stays wrong."""
    group = await studio.run(item(lessons.PREFIXED, ladder=reflections(2)))
    assert [key[:2] for key in keys(group)] == [
        ("none", 0),
        ("reflect", 1),
        ("reflect", 2),
        ("reflect", 2),
    ]
    merged = group.report.attempts[-1]
    assert [o.role for o in merged.outcomes] == ["planner"] * G + ["reflector"] * 2 * G
    assert studio.said(group, 0)[0].count(lessons.ASK) == 2, "the dialogue grows"


async def test_a_reflection_that_does_not_fit_is_not_made(studio: Studio) -> None:
    bare = await studio.run(item(lessons.REFLECTED))
    assert bare.trajectories is not None
    length = int(bare.trajectories.cu_seqlens[1]) - bare.outcomes[0].num_tokens
    short = replace(OPTIONS, max_prompt_tokens=length + 4)
    group = await studio.run(item(lessons.REFLECTED, ladder=reflections(1)), short)
    assert keys(group) == [("none", 0, 0, False)]


def wanted(*, bonus: float) -> SelfExample:
    return SelfExample(text=lessons.WANTED, bonus=bonus, min_words=8, max_similarity=0.8)


async def test_examples_in_the_thought_earn_shaping_only(studio: Studio) -> None:
    group = await studio.run(item(lessons.EXEMPLIFIED, self_example=wanted(bonus=0.01)))
    assert keys(group) == [("none", 0, G, False)]
    assert {(o.reward, o.shaping) for o in group.outcomes} == {(4.0, 0.01)}
    other = await studio.run(item(lessons.HINTED, self_example=wanted(bonus=0.01)))
    assert {o.shaping for o in other.outcomes} == {0.0}
    assert lessons.WANTED in studio.said(other, 0)[0]


def sample(success: bool, *, valid: bool = True) -> Sample:
    reason = FinishReason.STOP if valid else FinishReason.ERROR
    scored = Scored(0.0, 0.0, 0.0, 0.0, {}, success, 1, 1)
    return Sample(Prompt((), "", ""), Completion((), (), (), "", reason), scored)


def test_the_replaced_rollout_is_a_valid_failure_chosen_by_the_seed() -> None:
    group = [sample(False, valid=False), sample(False), sample(False), sample(False)]
    won = sample(True)
    places = [replace_one(group, won, seed=seed).index(won) for seed in range(6)]
    assert places == [1, 2, 3, 1, 2, 3]
    assert len(replace_one(group, won, seed=0)) == 4


async def test_reports_with_a_merged_group_are_read_back(studio: Studio) -> None:
    group = await studio.run(item(lessons.HINTED, ladder=hints()))
    assert group.trajectories is not None
    body = encode_group(group.trajectories, Report(fence=1, groups=[group.report]))
    cargo, report = decode_group(body)
    assert report.groups[0].attempts[-1].merged
    assert cargo.num_rollouts == G
