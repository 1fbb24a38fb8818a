"""What ends a completion besides its length: stop texts, stop tokens, the end of its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from etude_proto.v1 import FinishReason
from etude_rollout.engines import GenerationRequest, Sampling
from etude_rollout.engines.base import cut_off
from etude_rollout.engines.transformers_engine import TransformersEngine
from support.rollout_parts import requests
from support.waiting import wait_until


@pytest.fixture
async def engine(policy_dir: Path) -> AsyncIterator[TransformersEngine]:
    opened = await TransformersEngine.open(policy_dir, num_threads=1)
    yield opened
    await opened.close()


@pytest.fixture
def request_(policy_dir: Path) -> GenerationRequest:
    """Eight completions of forty tokens."""
    (made,) = requests(policy_dir, 1, num_completions=8, sampling=Sampling(max_new_tokens=40))
    return made


def stopping(request: GenerationRequest, **changes: object) -> GenerationRequest:
    return replace(request, sampling=replace(request.sampling, **changes))  # type: ignore[arg-type]


async def test_a_stop_text_ends_a_completion_and_belongs_to_it(
    engine: TransformersEngine, request_: GenerationRequest
) -> None:
    free = await engine.generate(request_)
    text = next(one.text for one in free if len(one.text) > 12)[6:9]
    stopped = await engine.generate(stopping(request_, stop=("never said", text)))
    assert any(text in one.text for one in stopped)
    for one, whole in zip(stopped, free, strict=True):
        assert one.token_ids == whole.token_ids[: len(one.token_ids)]
        assert one.logprobs == pytest.approx(whole.logprobs[: len(one.token_ids)], abs=1e-4)
        assert (text in whole.text) == (text in one.text)
        if text in one.text:
            assert one.finish_reason is FinishReason.STOP
            assert len(one.text) - one.text.index(text) < len(text) + 8  # its last token at most


async def test_a_stop_token_ends_a_completion_and_belongs_to_it(
    engine: TransformersEngine, request_: GenerationRequest
) -> None:
    free = await engine.generate(request_)
    token = free[0].token_ids[5]
    stopped = await engine.generate(stopping(request_, stop_token_ids=(token,)))
    for one, whole in zip(stopped, free, strict=True):
        if token in whole.token_ids:
            assert one.token_ids == whole.token_ids[: whole.token_ids.index(token) + 1]
            assert one.finish_reason is FinishReason.STOP
        else:
            assert one.token_ids == whole.token_ids


async def test_a_sequence_goes_on_from_its_tokens(
    engine: TransformersEngine, request_: GenerationRequest
) -> None:
    """Greedy: what was said so far, as a prompt, is continued as if nothing had been in between."""
    greedy = stopping(replace(request_, num_completions=1), temperature=0.0)
    (whole,) = await engine.generate(greedy)
    begun = greedy.prompt_ids + whole.token_ids[:7]
    rest = replace(stopping(greedy, max_new_tokens=33), prompt_ids=begun)
    (continued,) = await engine.generate(rest)
    assert whole.token_ids[:7] + continued.token_ids == whole.token_ids


async def test_the_most_likely_logprobs_come_along(
    engine: TransformersEngine, request_: GenerationRequest
) -> None:
    for one in await engine.generate(stopping(request_, num_top_logprobs=3)):
        assert len(one.top_logprobs) == len(one.token_ids)
        for top, own in zip(one.top_logprobs, one.logprobs, strict=True):
            assert list(top) == sorted(top, reverse=True)
            assert len(top) == 3
            assert own <= top[0] + 1e-6
    assert all(one.top_logprobs == () for one in await engine.generate(request_))


async def test_what_is_done_in_time_is_kept(
    engine: TransformersEngine, request_: GenerationRequest
) -> None:
    """One completion ends at once; the others would go on for all of the model's context."""
    first = (await engine.generate(stopping(request_, max_new_tokens=1)))[0].token_ids[0]
    long = stopping(request_, max_new_tokens=900, stop_token_ids=(first,))
    made = await engine.generate(replace(long, timeout_s=0.3))
    done = [one for one in made if one.finish_reason is FinishReason.STOP]
    late = [one for one in made if one.finish_reason is FinishReason.TIMEOUT]
    assert made[0].token_ids == (first,)
    assert len(done) + len(late) == 8
    assert late == [cut_off()] * len(late) != []


async def test_a_request_in_the_queue_runs_out_of_time_there(
    engine: TransformersEngine, request_: GenerationRequest
) -> None:
    busy = asyncio.create_task(engine.generate(stopping(request_, max_new_tokens=900)))

    async def is_decoding() -> bool:
        return engine.is_decoding

    await wait_until(is_decoding, what="the engine decodes")
    made = await engine.generate(replace(request_, timeout_s=0.05))
    assert made == (cut_off(),) * 8
    assert not busy.done()
    busy.cancel()
    await asyncio.wait([busy])
