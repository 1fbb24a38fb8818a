"""Help in episodes: it acts on the first prompt, is reported by level, and is trained under it.

A taught policy, the real calculator. The policy answers wrongly bare; with the second hint, or the
beginning of a solution, it calls the tool, reads the answer and says it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etude_proto.tensors import encode_group
from etude_proto.v1 import (
    Call,
    CallsReference,
    Demonstration,
    EpisodeReference,
    Ladder,
    Merge,
    Message,
    Reference,
    Report,
    RewardSpec,
    Rung,
    Scaffold,
    SelfExample,
)
from etude_rollout.engines import Sampling
from etude_rollout.engines.transformers_engine import TransformersEngine
from etude_rollout.episode import EpisodeOptions, Episodes, FinishedGroup, Terms
from etude_rollout.kit import Kit
from etude_rollout.prompting import Prompt
from etude_rollout.tools.opening import Environments
from etude_rollout.turns.chains import Chain, Track
from etude_rollout.turns.options import TurnOptions
from etude_rollout.turns.tabling import TurnEpisodes, cargo_of, outcome_of
from etude_rollout.turns.trying import Episode, EpisodeTries
from support import helped_lessons as lessons
from support.taught_policy import COLD
from support.tool_environments import opening, session
from support.tool_lessons import CALCULATE, answer_text, call_text, prompter_of
from support.turn_game import Game

TERMS = Terms(run_seed=3, reward=RewardSpec(), component_weights={}, policy_version=0)
OPTIONS = EpisodeOptions(
    sampling=Sampling(max_new_tokens=200, temperature=COLD),
    seed=0,
    max_prompt_tokens=1500,
    timeout_s=60.0,
)
G = 3


class Studio:
    """Plays the helped task."""

    def __init__(self, policy_dir: Path, engine: TransformersEngine, made: Environments) -> None:
        self.prompter = prompter_of(policy_dir)
        self.engine = engine
        self.kit = Kit(engine, self.prompter, OPTIONS)
        turns = TurnEpisodes(self.kit, made, TurnOptions(call_format="toolrl"))
        self.episodes = Episodes(engine, self.prompter, OPTIONS, turns)

    async def run(self, **more: object) -> FinishedGroup:
        """A group; what is reported and what is trained agree."""
        group = await self.episodes.run(lessons.helped_item(num_rollouts=G, **more), TERMS)
        assert group.trajectories is not None
        encode_group(group.trajectories, Report(fence=1, groups=[group.report]))
        return group

    def texts(self, group: FinishedGroup) -> list[str]:
        """Every trajectory, as text."""
        cargo = group.trajectories
        assert cargo is not None
        parts = np.split(cargo.tokens_T, cargo.cu_seqlens[1:-1])
        return [
            self.prompter.tokenizer.decode(part.tolist(), skip_special_tokens=False)
            for part in parts
        ]

    def said(self, group: FinishedGroup) -> str:
        """What the policy said in the first rollout."""
        cargo = group.trajectories
        assert cargo is not None
        part = slice(0, int(cargo.cu_seqlens[1]))
        own = cargo.tokens_T[part][cargo.loss_mask_T[part] == 1]
        return self.prompter.tokenizer.decode(own.tolist(), skip_special_tokens=True)


@pytest.fixture(scope="module")
def helped_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lessons.helped_policy(tmp_path_factory.mktemp("helped") / "policy")


@pytest.fixture
async def studio(helped_dir: Path, made: Environments) -> AsyncIterator[Studio]:
    engine = await TransformersEngine.open(helped_dir, num_threads=1)
    assert isinstance(engine, TransformersEngine)
    yield Studio(helped_dir, engine, made)
    await engine.close()


def keys(group: FinishedGroup) -> list[tuple[str, int, int, bool]]:
    return [
        (a.scaffold_kind, a.scaffold_level, sum(o.success for o in a.outcomes), a.merged)
        for a in group.report.attempts
    ]


def ladder(merge: Merge, *rungs: Rung) -> Ladder:
    num = 1 if merge is Merge.REPLACE_ONE else G
    return Ladder(kind="help", merge=merge, num_rollouts=num, rungs=list(rungs))


HINTS = ladder(
    Merge.REPLACE_ONE,
    Rung(level=1, text=lessons.hint_text("nines")),
    Rung(level=5, text=lessons.hint_text("call it")),
)


async def test_the_least_hint_that_helps_joins_the_group(studio: Studio) -> None:
    group = await studio.run(ladder=HINTS)
    assert keys(group) == [
        ("none", 0, 0, False),
        ("help", 1, 0, False),
        ("help", 5, 1, False),
        ("help", 5, 1, True),
    ]
    assert len(group.outcomes) == len(group.scores) == G + 2
    merged = group.report.attempts[-1]
    assert [o.num_turns for o in merged.outcomes if o.success] == [2], "it called and answered"
    for outcome, text in zip(merged.outcomes, studio.texts(group), strict=True):
        assert (lessons.hint_text("call it") in text) == outcome.success, "its own first prompt"
        assert ("<|im_start|>tool\n5<|im_end|>" in text) == outcome.success


async def test_the_beginning_of_a_solution_opens_the_first_turn_alone(studio: Studio) -> None:
    rung = Rung(level=1, text=lessons.SOLUTION[: lessons.CUT])
    group = await studio.run(ladder=ladder(Merge.REPLACE_ALL, rung))
    assert keys(group) == [("none", 0, 0, False), ("help", 1, G, False)]
    assert {o.components["format"] for o in group.report.attempts[-1].outcomes} == {1.0}
    rest = lessons.SOLUTION[lessons.CUT :]
    assert studio.said(group) == rest + answer_text(lessons.VALUE), "what is given is no loss"


@pytest.mark.parametrize(
    "climb",
    [
        ladder(
            Merge.REPLACE_ALL,
            Rung(level=1, turns=[Message(role="assistant", content=call_text("9-4"))]),
        ),
        ladder(Merge.APPEND_TURN, Rung(level=1, text="what went wrong?", again="again")),
    ],
    ids=["turns", "reflect"],
)
async def test_what_belongs_in_the_middle_is_left_out(studio: Studio, climb: Ladder) -> None:
    group = await studio.run(ladder=climb)
    assert keys(group) == [("none", 0, 0, False)]
    assert group.trajectories is not None
    assert group.trajectories.num_rollouts == G


EXAMPLE = (
    "<think> <example> Request: two and two\n"
    '{"name": "calculate", "parameters": {"expression": "2+2"}}\n'
    "</example> <analysis> sums are just what the calculate tool is for </analysis> </think>\n"
    + call_text("9-4").partition("\n")[2]
)


@pytest.mark.parametrize(("first", "shaping"), [(EXAMPLE, 0.01), (call_text("9-4"), 0.0)])
async def test_own_examples_are_judged_by_the_first_turn(
    studio: Studio, policy_dir: Path, made: Environments, *, first: str, shaping: float
) -> None:
    wanted = SelfExample(text="show examples", bonus=0.01, min_words=8, max_similarity=0.8)
    item = lessons.helped_item(num_rollouts=1, self_example=wanted)
    game = Game(studio.engine, made, policy_dir, lessons.helped_task(), TurnOptions())
    chain = await game.begin()
    tries = EpisodeTries(studio.kit, replace(game.table, item=item), [CALCULATE], RewardSpec())
    prompt = tries.prompt()
    assert "show examples" in prompt.text
    await game.say(first)
    await game.say(answer_text(lessons.VALUE))
    await game.close()
    (episode,) = tries.episodes(prompt, [chain])
    assert (episode.is_right, episode.shaping) == (True, shaping)
    outcome = outcome_of(chain, item.task, shaping=episode.shaping)
    assert (outcome.reward, outcome.shaping) == (4.0, shaping), "shaping is no reward"


EPISODE = EpisodeReference(answers=["8"])
CALLS = CallsReference(calls=[Call(name="calculate", parameters={"expression": "9-4"})])


@pytest.mark.parametrize(
    ("reference", "served"), [(CALLS, Scaffold(kind="few_shot", level=1)), (EPISODE, Scaffold())]
)
async def test_demonstrations_stand_in_the_first_prompt(
    studio: Studio, reference: Reference, served: Scaffold
) -> None:
    """Those of one turn, scored before they are shown; an episode's cannot be."""
    shown = Demonstration(
        task_id="task_other",
        origin="imported",
        tools=[CALCULATE],
        request="what is 9-4",
        answer=call_text("9-4"),
        reference=reference,
    )
    few = Scaffold(kind="few_shot", level=2)
    group = await studio.run(scaffold=few, demonstrations=[shown])
    (attempt,) = group.report.attempts
    assert (attempt.scaffold_kind, attempt.scaffold_level) == (served.kind, served.level)
    assert all(("## Example 1" in text) == (served.level == 1) for text in studio.texts(group))


async def test_a_branch_whose_parent_was_replaced_is_a_root(made: Environments) -> None:
    async with session(made, opening()) as opened:
        chains = [Chain(n, opened, Track.of_prompt([1, 2]), 0.0) for n in range(4)]
    chains[1].parent, chains[2].parent = 0, 1
    prompt = Prompt((1, 2), "", "")
    group = [Episode(prompt, chain) for chain in chains]
    hinted = Episode(Prompt((1, 2, 3), "", ""), replace(chains[3], number=0))

    def parents(trained: Sequence[Episode], lost: Sequence[Prompt] = ()) -> list[int] | None:
        cargo = cargo_of(trained, group, lost=lost)
        assert cargo.num_rollouts == len(trained) + len(lost)
        return None if cargo.parent_G is None else cargo.parent_G.tolist()

    assert parents(group, [prompt]) == [-1, 0, 1, -1, -1]
    assert parents([hinted, *group[1:]]) == [-1, -1, 1, -1]
    assert parents([group[0], hinted, *group[2:]]) is None, "the clone of a clone holds all of it"
    assert parents([hinted]) is None, "a rung's rollouts have no branches"
