"""Two phases on a real engine: stop or go on, the same rollouts either way, and what fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etude_proto.v1 import FinishReason, PromptItem, RewardSpec, Screen
from etude_rollout.engines import Completion, Sampling
from etude_rollout.engines.base import GenerationRequest
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.episode import EpisodeOptions, Episodes, FinishedGroup, Terms
from etude_rollout.phases import EpisodeFailed, is_mixed, roll_out
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer
from etude_rollout.rewards import Scored
from support.rollout_parts import prompt_item
from support.undecided_policy import MAX_NEW_TOKENS, PREFILL, answers, undecided_policy

TERMS = Terms(run_seed=3, reward=RewardSpec(), component_weights={}, policy_version=0)
OPTIONS = EpisodeOptions(
    sampling=Sampling(max_new_tokens=MAX_NEW_TOKENS),
    seed=0,
    max_prompt_tokens=500,
    timeout_s=60.0,
)
NUM_TASKS = 24
FIRST, WHOLE = 4, 12


@pytest.fixture(scope="module")
def undecided_dir(policy_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undecided_policy(tmp_path_factory.mktemp("undecided") / "tiny", made=policy_dir)


@pytest.fixture
async def episodes(undecided_dir: Path) -> AsyncIterator[Episodes]:
    engine = await TransformersEngine.open(undecided_dir, num_threads=1)
    options = PromptOptions(explain_format=False, prefill=PREFILL)
    yield Episodes(engine, Prompter(load_tokenizer(undecided_dir), options), OPTIONS)
    await engine.close()


def items(*, screen: int | None = FIRST, train: bool = True) -> list[PromptItem]:
    """Items of many tasks."""
    told = {"screen": None if screen is None else Screen(num_rollouts=screen), "train": train}
    return [
        prompt_item(row, num_rollouts=WHOLE).model_copy(update=told) for row in answers(NUM_TASKS)
    ]


def right(group: FinishedGroup) -> list[bool]:
    return [outcome.success for outcome in group.outcomes]


async def test_a_screened_group_is_the_beginning_of_the_whole_one(episodes: Episodes) -> None:
    """What was made first is what would have been made, and only disagreement goes on."""
    num_stopped = 0
    for item, plain in zip(items(), items(screen=None), strict=True):
        group, whole = await episodes.run(item, TERMS), await episodes.run(plain, TERMS)
        assert len(right(whole)) == WHOLE
        assert whole.trajectories is not None
        stopped = len(set(right(whole)[:FIRST])) == 1
        num_stopped += stopped
        if stopped:
            assert right(group) == right(whole)[:FIRST]
            assert group.trajectories is None
        else:
            assert right(group) == right(whole)
            assert group.trajectories is not None
            assert np.array_equal(group.trajectories.tokens_T, whole.trajectories.tokens_T)
    assert 0 < num_stopped < NUM_TASKS / 2, "a policy that is right every second time"


async def test_a_probe_travels_without_tokens(episodes: Episodes) -> None:
    group = await episodes.run(items(screen=None, train=False)[0], TERMS)
    assert len(group.outcomes) == WHOLE
    assert group.trajectories is None


async def test_a_first_phase_that_fails_is_all_that_was_tried(undecided_dir: Path) -> None:
    engine = await TransformersEngine.open(undecided_dir, num_threads=1)
    prompter = Prompter(load_tokenizer(undecided_dir), PromptOptions(explain_format=False))
    try:
        hasty = Episodes(engine, prompter, replace(OPTIONS, timeout_s=1e-4))
        group = await hasty.run(items()[0], TERMS)
    finally:
        await engine.close()
    assert [outcome.finish_reason for outcome in group.outcomes] == [FinishReason.TIMEOUT] * FIRST


def _made(*reasons: FinishReason) -> list[Completion]:
    return [Completion((7,), (-0.5,), (0,), "x", reason) for reason in reasons]


def _scored(*successes: bool) -> list[Scored]:
    return [Scored(0.0, 0.0, 0.0, 0.0, {}, success, 0, 0) for success in successes]


STOP, ERROR = FinishReason.STOP, FinishReason.ERROR


@pytest.mark.parametrize(
    ("reasons", "successes", "mixed"),
    [
        ((STOP, STOP), (True, False), True),
        ((STOP, STOP), (False, False), False),
        ((STOP, STOP), (True, True), False),
        ((STOP, ERROR), (True, False), False),
        ((STOP, STOP, ERROR), (True, False, False), True),
        ((ERROR, ERROR), (False, True), False),
    ],
)
def test_only_valid_rollouts_say_whether_to_go_on(
    reasons: Sequence[FinishReason], successes: Sequence[bool], *, mixed: bool
) -> None:
    assert is_mixed(_made(*reasons), _scored(*successes)) is mixed


async def test_a_second_phase_that_fails_leaves_the_first_one_standing() -> None:
    asked: list[tuple[int, int]] = []

    async def generate(num: int, first: int) -> list[Completion]:
        asked.append((num, first))
        if first:
            raise EpisodeFailed(FinishReason.TIMEOUT, "too slow")
        return _made(*[STOP] * num)

    async def score(made: Sequence[Completion]) -> list[Scored]:
        return _scored(*(j % 2 == 0 for j in range(len(made))))

    rolled = await roll_out(items()[0], generate, score)
    assert asked == [(FIRST, 0), (WHOLE - FIRST, FIRST)]
    assert (len(rolled.completions), rolled.num_lost) == (FIRST, WHOLE - FIRST)
    assert not rolled.is_stopped
    assert rolled.failure is not None
    assert rolled.failure.reason is FinishReason.TIMEOUT


async def test_completions_go_on_where_an_earlier_request_stopped(undecided_dir: Path) -> None:
    engine = await TransformersEngine.open(undecided_dir, num_threads=1)
    try:
        whole = GenerationRequest((5, 6, 7), 5, Sampling(max_new_tokens=6), seed=9)
        rest = replace(whole, num_completions=3, first=2)
        first, second = await engine.generate(whole), await engine.generate(rest)
    finally:
        await engine.close()
    assert [one.token_ids for one in second] == [one.token_ids for one in first[2:]]
