"""Moving a rollout by turns: what is executed, what is written, where it ends, what it is worth."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etude_proto.v1 import (
    CalculatorEnvironment,
    EpisodeReference,
    FinishReason,
    HttpEnvironment,
    Message,
    ServerConfig,
    TaskCreate,
    Tool,
)
from etude_rollout.engines import Completion
from etude_rollout.tools.opening import Environments
from etude_rollout.tools.servers import HttpServer
from etude_rollout.trajectories import pack_tracks
from etude_rollout.turns.options import PARALLEL_TURNS, TurnOptions
from etude_rollout.turns.tabling import outcome_of
from support.http_tools import http_tools
from support.tool_environments import environments
from support.tool_lessons import answer_text, call_text, sum_task
from support.turn_game import Game, Recorder

BAD_CALL = "<think> so </think>\n<tool_call>\ncalculate(1)\n</tool_call>"


@pytest.fixture
async def engine(policy_dir: Path) -> AsyncIterator[Recorder]:
    opened = await Recorder.open(policy_dir, num_threads=1)
    assert isinstance(opened, Recorder)
    opened.asked = []
    yield opened
    await opened.close()


@pytest.fixture
async def play(
    engine: Recorder, made: Environments, policy_dir: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Game]:
    """A game on `3+4`; a parameter changes its task or its limits."""
    changes = dict(getattr(request, "param", {}))
    row = changes.pop("row", sum_task("3+4"))
    game = Game(engine, made, policy_dir, row, replace(TurnOptions(), **changes))
    await game.begin()
    yield game
    await game.close()


async def test_a_call_its_answer_and_the_last_word(play: Game) -> None:
    chain = play.chain
    await play.say(call_text("3+4"))
    assert not chain.is_over
    assert play.text.endswith("<|im_end|>\n<|im_start|>tool\n7<|im_end|>\n<|im_start|>assistant\n")
    await play.say(answer_text("7"), version=6)
    outcome = outcome_of(chain, play.item.task)
    assert outcome.components == {"format": 1.0, "answer": 1.0}
    assert (outcome.success, outcome.reward, outcome.num_turns) == (True, 4.0, 2)
    assert (outcome.min_policy_version, outcome.max_policy_version) == (5, 6)
    track = chain.track
    assert outcome.num_tokens == sum(track.is_sampled)
    cargo = pack_tracks(play.player.prompt.token_ids, [track, None], [-1, -1])
    sampled = cargo.loss_mask_T == 1
    assert set(cargo.versions_T[sampled].tolist()) == {5, 6}
    assert set(cargo.versions_T[~sampled].tolist()) == {-1}
    assert set(cargo.logprobs_T[sampled].tolist()) == {-0.5}
    assert not cargo.logprobs_T[~sampled].any()
    assert cargo.cu_seqlens.tolist() == [
        0,
        len(track.token_ids),
        len(track.token_ids) + len(play.player.prompt.token_ids),
    ]
    said = play.prompter.tokenizer.decode(
        cargo.tokens_T[sampled].tolist(), skip_special_tokens=False
    )
    assert said == f"{call_text('3+4')}<|im_end|>{answer_text('7')}<|im_end|>"
    assert cargo.parent_G is None


async def test_the_engine_sees_what_the_trajectory_says(play: Game, engine: Recorder) -> None:
    """Token for token, at every turn; odd pieces that no tokenizer would make stay as they are."""
    prompter, chain = play.prompter, play.chain
    eos = prompter.tokenizer.eos_token_id
    assert eos is not None
    for number in range(4):
        made = await play.player.speak(chain)
        assert made is not None
        request, _ = engine.asked[-1]
        assert list(request.prompt_ids) == chain.track.token_ids
        assert (request.first, request.seed) == (chain.number, len("turn/1") if number else 0)
        pieces = [prompter.encode(letter)[0] for letter in call_text("3+4")]
        odd = Completion(
            (*pieces, eos),
            (-1.0,) * (len(pieces) + 1),
            (0,) * (len(pieces) + 1),
            call_text("3+4"),
            FinishReason.STOP,
        )
        before = list(chain.track.token_ids)
        await play.player.hear(chain, odd)
        assert chain.track.token_ids[: len(before)] == before
        assert chain.track.token_ids[len(before) : len(before) + len(pieces) + 1] == [*pieces, eos]
    lengths = {len(chain.track.token_ids), len(chain.track.is_sampled)}
    assert lengths == {len(chain.track.logprobs)} == {len(chain.track.versions)}


async def test_errors_of_tools_and_of_calls_are_told(play: Game) -> None:
    await play.say(call_text("1/0"))
    assert "tool\nerror: division by zero<|im_end|>" in play.text
    await play.say(BAD_CALL)
    assert "tool\nerror: the call cannot be read" in play.text
    assert not play.chain.is_over
    await play.say(answer_text("7"))
    outcome = outcome_of(play.chain, play.item.task)
    assert outcome.components == {"format": 0.0, "answer": 1.0}, "one turn was no good form"


FOLLOWED = TaskCreate(
    messages=[Message(role="user", content="what is 1+1")],
    reference=EpisodeReference(answers=["6"]),
    environment=CalculatorEnvironment(
        user_turns=[
            [Message(role="user", content="and 2+2")],
            [Message(role="user", content="sum")],
        ]
    ),
)


@pytest.mark.parametrize("play", [{"row": FOLLOWED}], indirect=True)
async def test_the_user_goes_on_when_the_policy_has_answered(play: Game) -> None:
    await play.say(answer_text("2"))
    assert play.text.endswith("<|im_start|>user\nand 2+2<|im_end|>\n<|im_start|>assistant\n")
    await play.say(answer_text("4"))
    await play.say(call_text("2+4"))
    await play.say(answer_text("6"))
    assert play.chain.ended is FinishReason.STOP
    assert outcome_of(play.chain, play.item.task).success


@pytest.mark.parametrize("play", [{"max_turns": 2}], indirect=True)
async def test_turns_are_bounded_and_the_last_calls_still_act(play: Game) -> None:
    await play.say(call_text("3+4"))
    await play.say(call_text("3+4"))
    assert play.chain.ended is FinishReason.MAX_TURNS
    assert len(play.chain.made) == 2
    outcome = outcome_of(play.chain, play.item.task)
    assert (outcome.success, outcome.reward) == (False, -2.0)
    assert play.chain.track.is_sampled[-1], "nothing is shown that nobody answers"


@pytest.mark.parametrize("play", [{"max_calls": 2}], indirect=True)
async def test_calls_are_bounded(play: Game) -> None:
    await play.say(call_text("1", "2", "3"))
    assert play.chain.ended is FinishReason.TOOL_LIMIT
    assert play.chain.made == [], "nothing of such a turn is executed"
    assert outcome_of(play.chain, play.item.task).finish_reason is FinishReason.TOOL_LIMIT


@pytest.mark.parametrize("play", [{"max_tokens": 60}], indirect=True)
async def test_tokens_are_bounded_observations_included(play: Game, engine: Recorder) -> None:
    made = await play.player.speak(play.chain)
    assert made is not None
    assert engine.asked[-1][0].sampling.max_new_tokens == 4
    await play.say(call_text("3+4"))
    assert play.chain.ended is FinishReason.LENGTH
    assert play.chain.track.is_sampled[-1]
    assert outcome_of(play.chain, play.item.task).finish_reason is FinishReason.LENGTH


async def test_no_room_for_another_turn_ends_it(play: Game) -> None:
    play.chain.track.add_given([5] * 2000)
    assert await play.player.speak(play.chain) is None
    assert play.chain.ended is FinishReason.LENGTH


async def test_what_was_cut_off_is_not_executed(play: Game) -> None:
    await play.say(call_text("3+4"), reason=FinishReason.LENGTH)
    assert play.chain.ended is FinishReason.LENGTH
    assert play.chain.made == []


@pytest.mark.parametrize("play", [{"parallel_tools": True}], indirect=True)
async def test_parallel_results_stand_in_one_json(play: Game) -> None:
    await play.say(call_text("1+1", "1/0", "5*5", "6"))
    told = play.text.rpartition("<|im_start|>tool\n")[2].partition("<|im_end|>")[0]
    assert json.loads(told) == [
        {"call": 1, "name": "calculate", "result": "2"},
        {"call": 2, "name": "calculate", "error": "division by zero"},
        {"call": 3, "name": "calculate", "result": "25"},
        {
            "call": 4,
            "name": "calculate",
            "error": "not executed: more than 3 calls in one turn",
        },
    ]
    assert len(play.chain.made) == 2
    for _ in range(PARALLEL_TURNS - 1):
        await play.say(call_text("1"))
        assert not play.chain.is_over
    await play.say(call_text("1"))
    assert play.chain.ended is FinishReason.TOOL_LIMIT


async def test_parallel_calls_run_at_the_same_time(engine: Recorder, policy_dir: Path) -> None:
    """Three calls that wait for each other: one after another none would be answered."""
    row = TaskCreate(
        messages=[Message(role="user", content="meet")],
        tools=[Tool(name="meet")],
        reference=EpisodeReference(answers=["yes"]),
        environment=HttpEnvironment(config=ServerConfig(server="web")),
    )
    call = '{"name": "meet", "parameters": {}}'
    with http_tools() as url:
        async with environments({"web": HttpServer(kind="http", url=url)}) as served:
            game = Game(engine, served, policy_dir, row, TurnOptions(parallel_tools=True))
            await game.begin()
            await game.say(f"<think> a </think>\n<tool_call>\n{call}\n{call}\n{call}\n</tool_call>")
            await game.close()
    assert game.text.count('"result": "met"') == 3


async def test_an_environment_that_dies_says_nothing_of_the_policy(
    play: Game, made: Environments
) -> None:
    nursery = made.sandbox.process_id
    newest = max(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.read_text().rpartition(")")[2].split()[1] == str(nursery)
    )
    os.kill(newest, signal.SIGKILL)
    await play.say(call_text("3+4"))
    outcome = outcome_of(play.chain, play.item.task)
    assert outcome.finish_reason is FinishReason.ERROR
    assert (outcome.components, outcome.reward) == ({}, 0.0)


async def test_time_is_bounded(play: Game) -> None:
    play.chain.deadline_s = asyncio.get_running_loop().time()
    await play.say(call_text("3+4"))
    assert outcome_of(play.chain, play.item.task).finish_reason is FinishReason.TIMEOUT


def test_clones_share_what_was_and_no_more() -> None:
    arrays = pack_tracks([1, 2], [None, None, None], [-1, 0, 1])
    assert arrays.parent_G is not None
    assert arrays.parent_G.tolist() == [-1, 0, 1]
    assert np.diff(arrays.cu_seqlens).tolist() == [2, 2, 2]
