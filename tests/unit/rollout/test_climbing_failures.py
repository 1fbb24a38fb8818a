"""Infrastructure that fails during a climb: what was made before is reported, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from etude_proto.tensors import encode_group
from etude_proto.v1 import FinishReason, Ladder, Merge, PromptItem, Report, RewardSpec, Rung
from etude_rollout.engines import Completion, EngineError, GenerationRequest, Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.episode import EpisodeOptions, Episodes, FinishedGroup, Terms
from etude_rollout.prompting import Prompter, PromptOptions, load_tokenizer
from support.rollout_parts import prompt_item
from support.scaffold_lessons import AGAIN, ASK, HINTED

G = 4
OPTIONS = EpisodeOptions(
    sampling=Sampling(max_new_tokens=8), seed=0, max_prompt_tokens=900, timeout_s=60.0
)
RUNGS = [Rung(level=level, text=f"hint {level}", again=AGAIN) for level in (1, 5, 6)]
HINTS = Ladder(kind="hints", merge=Merge.REPLACE_ONE, num_rollouts=1, rungs=RUNGS)
REFLECT = Ladder(
    kind="reflect",
    merge=Merge.APPEND_TURN,
    num_rollouts=1,
    rungs=[Rung(level=1, text=ASK, again=AGAIN)],
)


@pytest.fixture
async def engine(policy_dir: Path) -> AsyncIterator[TransformersEngine]:
    """A random policy: it is always wrong, and so it climbs to the end."""
    opened = await TransformersEngine.open(policy_dir, num_threads=1)
    yield opened
    await opened.close()


def break_calls(
    monkeypatch: pytest.MonkeyPatch,
    engine: TransformersEngine,
    calls: Collection[int],
    *,
    silently: bool = False,
) -> None:
    """Let some of the engine's calls, counted from 1, fail, or end what they said in an error."""
    real, count = engine.generate, 0

    async def generate(request: GenerationRequest) -> tuple[Completion, ...]:
        nonlocal count
        count += 1
        if count not in calls:
            return await real(request)
        if not silently:
            raise EngineError("the engine lost its cable")
        made = await real(request)
        return tuple(replace(one, finish_reason=FinishReason.ERROR) for one in made)

    monkeypatch.setattr(engine, "generate", generate)


async def run(engine: TransformersEngine, policy_dir: Path, ladder: Ladder) -> FinishedGroup:
    """A group of the task that nobody solves; its report and cargo agree."""
    prompter = Prompter(load_tokenizer(policy_dir), PromptOptions(explain_format=False))
    item: PromptItem = prompt_item(HINTED, num_rollouts=G).model_copy(update={"ladder": ladder})
    terms = Terms(run_seed=3, reward=RewardSpec(), component_weights={}, policy_version=0)
    group = await Episodes(engine, prompter, OPTIONS).run(item, terms)
    assert group.trajectories is not None
    encode_group(group.trajectories, Report(fence=1, groups=[group.report]))
    return group


def levels(group: FinishedGroup) -> list[tuple[str, int, int]]:
    return [(a.scaffold_kind, a.scaffold_level, len(a.outcomes)) for a in group.report.attempts]


async def test_a_rung_that_fails_ends_the_climb(
    monkeypatch: pytest.MonkeyPatch, engine: TransformersEngine, policy_dir: Path
) -> None:
    break_calls(monkeypatch, engine, {3})
    group = await run(engine, policy_dir, HINTS)
    assert levels(group) == [("hints", 1, 1), ("none", 0, G)]


async def test_a_rung_that_fails_beside_others_is_left_out(
    monkeypatch: pytest.MonkeyPatch, engine: TransformersEngine, policy_dir: Path
) -> None:
    break_calls(monkeypatch, engine, {3})
    group = await run(engine, policy_dir, HINTS.model_copy(update={"at_once": True}))
    assert levels(group) == [("hints", 1, 1), ("hints", 6, 1), ("none", 0, G)]


async def test_a_rung_whose_rollout_ends_in_an_error_is_no_failure_of_the_policy(
    monkeypatch: pytest.MonkeyPatch, engine: TransformersEngine, policy_dir: Path
) -> None:
    break_calls(monkeypatch, engine, {2}, silently=True)
    group = await run(engine, policy_dir, HINTS)
    (outcome,) = group.report.attempts[0].outcomes
    assert (outcome.finish_reason, outcome.components) == (FinishReason.ERROR, {})
    assert len(group.report.attempts) == 4


async def test_a_group_of_errors_does_not_climb(
    monkeypatch: pytest.MonkeyPatch, engine: TransformersEngine, policy_dir: Path
) -> None:
    break_calls(monkeypatch, engine, {1}, silently=True)
    group = await run(engine, policy_dir, HINTS)
    assert levels(group) == [("none", 0, G)]


async def test_a_ladder_without_rungs_is_none(engine: TransformersEngine, policy_dir: Path) -> None:
    group = await run(engine, policy_dir, HINTS.model_copy(update={"rungs": []}))
    assert levels(group) == [("none", 0, G)]


@pytest.mark.parametrize("silently", [False, True])
async def test_rollouts_whose_reflection_fails_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
    engine: TransformersEngine,
    policy_dir: Path,
    *,
    silently: bool,
) -> None:
    """The first of four reflections fails: three attempts more, four planners, three reflectors."""
    break_calls(monkeypatch, engine, {2}, silently=silently)
    group = await run(engine, policy_dir, REFLECT)
    assert levels(group) == [("none", 0, G), ("reflect", 1, G - 1), ("reflect", 1, 2 * G - 1)]
    roles = [outcome.role for outcome in group.report.attempts[-1].outcomes]
    assert roles == ["planner"] * G + ["reflector"] * (G - 1)
