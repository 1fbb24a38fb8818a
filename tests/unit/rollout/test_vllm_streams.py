"""What is asked of vLLM, and what its answers mean: seeds, stops, versions by token, limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etude_proto.v1 import FinishReason
from etude_rollout.engines import EngineError, EngineUnavailable, GenerationRequest, Sampling
from etude_rollout.engines.base import cut_off
from etude_rollout.engines.vllm_answers import generated_of
from etude_rollout.engines.vllm_engine import VllmEngine
from etude_rollout.engines.vllm_weights import Served
from etude_rollout.engines.vllm_wire import Generated
from support.scripted_server import Hold, Reply, ScriptedServer, Seen, scripted_server
from support.waiting import wait_until

REQUEST = GenerationRequest((1, 2), 4, Sampling(max_new_tokens=3), seed=100)
GENERATE, COMPLETE = "/inference/v1/generate", "/v1/completions"


def said(*spans: tuple[str, int, int], num: int = 3) -> dict[str, object]:
    """A completion of `num` tokens as the generate route answers it."""
    return {
        "text": "abc",
        "finish_reason": "stop",
        "token_ids": list(range(num)),
        "logprobs": {"content": [{"logprob": -1.0, "top_logprobs": [{"logprob": -1.0}]}] * num},
        "weight_versions": [{"version": v, "start": i, "end": j} for v, i, j in spans],
    }


def answer(body: object) -> Reply:
    return Reply(body=json.dumps(body).encode())


def generated(seen: Seen) -> Reply:
    return answer({"choices": [said(("default", 0, 3))]})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server with the control routes of vLLM."""
    with scripted_server() as scripted:
        for path, body in {
            "/v1/models": {"data": [{"id": "policy", "max_model_len": 64}]},
            "/version": {"version": "0.32.0"},
            "/is_paused": {"is_paused": False},
            "/weight_info": {"weight_version": "default"},
            "/reset_prefix_cache": {"success": True},
        }.items():
            scripted.script(path, answer(body))
        names = ("init_weight_transfer_engine", "start_weight_update", "update_weights")
        for name in (*names, "finish_weight_update", "pause", "resume"):
            scripted.script(f"/{name}", answer({}))
        yield scripted


async def opened(server: ScriptedServer) -> VllmEngine:
    return await VllmEngine.open(server.url, weights_root=Path("/nowhere"), dtype="float32")


@pytest.fixture
async def engine(server: ScriptedServer) -> AsyncIterator[VllmEngine]:
    """On a server that tells versions by token."""
    server.script(GENERATE, generated)
    made = await opened(server)
    assert made.has_spans
    server.seen.clear()
    yield made
    await made.close()


async def test_completions_are_requests_of_their_own_with_vllms_seeds(
    server: ScriptedServer, engine: VllmEngine
) -> None:
    """vLLM gives completion j of a request the seed `seed + j`; a second phase goes on there."""
    await engine.generate(REQUEST)
    await engine.generate(replace(REQUEST, num_completions=2, first=4))
    bodies = [json.loads(seen.body)["sampling_params"] for seen in server.seen]
    assert sorted(body["seed"] for body in bodies[:4]) == [100, 101, 102, 103]
    assert sorted(body["seed"] for body in bodies[4:]) == [104, 105]
    assert {body["n"] for body in bodies} == {1}


async def test_stops_are_passed_on_and_belong_to_the_completion(
    server: ScriptedServer, engine: VllmEngine
) -> None:
    sampling = Sampling(3, stop=("</x>",), stop_token_ids=(7,), num_top_logprobs=2)
    await engine.generate(replace(REQUEST, num_completions=1, sampling=sampling))
    (body,) = [json.loads(seen.body)["sampling_params"] for seen in server.seen]
    assert (body["stop"], body["stop_token_ids"], body["logprobs"]) == (["</x>"], [7], 2)
    assert body["include_stop_str_in_output"] is True


async def test_late_completions_are_cut_off_and_the_others_kept(
    server: ScriptedServer, engine: VllmEngine
) -> None:
    server.clear()
    server.script(GENERATE, generated, Hold(), generated, Hold())
    made = await engine.generate(replace(REQUEST, timeout_s=0.5))
    assert sorted(one.finish_reason for one in made) == ["stop", "stop", "timeout", "timeout"]
    assert [one for one in made if one.finish_reason is FinishReason.TIMEOUT] == [cut_off()] * 2


async def test_one_that_fails_fails_the_group(server: ScriptedServer, engine: VllmEngine) -> None:
    server.clear()
    server.script(GENERATE, generated, Reply(400, b"no"), Hold())
    with pytest.raises(EngineError, match="400"):
        await engine.generate(REQUEST)


async def test_without_spans_a_load_waits_for_what_is_under_way(server: ScriptedServer) -> None:
    server.script(GENERATE, Reply(403))
    choice = {
        "index": 0,
        "text": "",
        "token_ids": [5],
        "logprobs": {"token_logprobs": [-0.5]},
        "finish_reason": "length",
    }
    server.script(COMPLETE, Hold(), answer({"choices": [choice]}))
    engine = await opened(server)
    assert not engine.has_spans
    slow = asyncio.create_task(engine.generate(replace(REQUEST, num_completions=1)))

    def paths() -> list[str]:
        return [seen.path for seen in server.seen]

    async def is_under_way() -> bool:
        return COMPLETE in paths()

    await wait_until(is_under_way, what="vLLM generates")
    load = asyncio.create_task(engine.load_weights(Path("/nowhere/v1"), version=1))

    async def is_staged() -> bool:
        return "/update_weights" in paths()

    await wait_until(is_staged, what="the weights are staged")
    after = asyncio.create_task(engine.generate(replace(REQUEST, num_completions=1)))
    done, _ = await asyncio.wait({load, after}, timeout=0.1)
    assert not done
    assert "/finish_weight_update" not in paths()
    slow.cancel()
    await load
    (made,) = await after
    assert (made.versions, made.logprobs) == ((1,), (-0.5,))
    assert paths().index("/finish_weight_update") < len(paths()) - 1 - paths()[::-1].index(COMPLETE)
    await engine.close()


async def test_a_cache_that_is_not_reset_breaks_the_engine(
    server: ScriptedServer, engine: VllmEngine
) -> None:
    """New tokens on the old weights' keys and values would be nobody's."""
    server.clear()
    for name in ("start_weight_update", "update_weights", "finish_weight_update", "pause"):
        server.script(f"/{name}", answer({}))
    server.script("/reset_prefix_cache", answer({"success": False}))
    with pytest.raises(EngineError, match="prefix cache"):
        await engine.load_weights(Path("/nowhere/v1"), version=1)
    with pytest.raises(EngineUnavailable, match="restart it"):
        await engine.check()
    reset = next(seen for seen in server.seen if seen.path == "/reset_prefix_cache")
    assert reset.query == {"reset_running_requests": "true"}
    assert "/resume" not in [seen.path for seen in server.seen]


async def test_a_server_that_was_restarted_is_told_the_root_again(
    server: ScriptedServer, engine: VllmEngine
) -> None:
    """It has the weights it was started with, and would take no others until then."""
    assert not await engine.holds(1)
    server.clear()
    for name in ("init_weight_transfer_engine", "update_weights", "finish_weight_update", "pause"):
        server.script(f"/{name}", answer({}))
    server.script("/start_weight_update", Reply(500), answer({}))
    server.script("/resume", answer({}))
    server.script("/reset_prefix_cache", answer({"success": True}))
    await engine.load_weights(Path("/nowhere/v1"), version=1)
    paths = [seen.path for seen in server.seen]
    assert paths[:2] == ["/start_weight_update", "/init_weight_transfer_engine"]
    assert engine.version == 1


def meaning(*spans: tuple[str, int, int], served: Served, now: Served | None = None) -> object:
    parsed = Generated.model_validate(said(*spans))
    return generated_of(parsed, served, now=now or served, num_top=0).versions


def test_versions_are_those_of_the_spans() -> None:
    before = Served("policy", 2, versions_by_label={"v2": 2})
    after = Served("policy", 3, versions_by_label={"v2": 2, "v3": 3})
    assert meaning(("v2", 0, 3), served=before) == (2, 2, 2)
    assert meaning(("v2", 0, 1), ("v3", 1, 3), served=before, now=after) == (2, 3, 3)


def test_an_adapter_is_its_own_version() -> None:
    adapter = Served("policy-v000007-a", 7, is_adapter=True)
    assert meaning(("default", 0, 3), served=adapter) == (7, 7, 7)


@pytest.mark.parametrize("spans", [[("default", 0, 3)], [("v3", 0, 1), ("v9", 1, 3)]])
def test_tokens_of_weights_that_nobody_loaded_are_not_taken(
    spans: list[tuple[str, int, int]],
) -> None:
    """A server that was restarted samples from the weights it was born with."""
    served = Served("policy", 3, versions_by_label={"v3": 3})
    with pytest.raises(EngineUnavailable, match="did not load"):
        meaning(*spans, served=served)


@pytest.mark.parametrize("spans", [[], [("v3", 0, 2)]])
def test_tokens_without_a_version_are_an_error(spans: list[tuple[str, int, int]]) -> None:
    served = Served("policy", 3, versions_by_label={"v3": 3})
    with pytest.raises(EngineError, match="versions of"):
        meaning(*spans, served=served)
