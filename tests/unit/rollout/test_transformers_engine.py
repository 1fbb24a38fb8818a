"""The in-process engine on a real, tiny model: what it samples, says about it, and loads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from etude_proto.v1 import FinishReason
from etude_rollout.engines import (
    EngineError,
    EngineUnavailable,
    GenerationRequest,
    Sampling,
    WeightsRefused,
)
from etude_rollout.engines.transformers_engine import TransformersEngine
from support.rollout_parts import publish, requests, shift
from support.waiting import wait_until


@pytest.fixture
async def engine(policy_dir: Path) -> AsyncIterator[TransformersEngine]:
    opened = await TransformersEngine.open(policy_dir, num_threads=1)
    yield opened
    await opened.close()


async def decoding(engine: TransformersEngine) -> None:
    """Return when a batch is being decoded."""

    async def is_decoding() -> bool:
        return engine.is_decoding

    await wait_until(is_decoding, what="the engine decodes", timeout_s=30)


async def largest_gap(engine: TransformersEngine, request: GenerationRequest) -> float:
    """Between the sampled log-probabilities and those of an unpadded pass without a cache."""
    gaps = []
    for completion in await engine.generate(request):
        ids = request.prompt_ids + completion.token_ids
        scored = (await engine.score_logprobs([ids]))[0][len(request.prompt_ids) - 1 :]
        gaps += [abs(a - b) for a, b in zip(scored, completion.logprobs, strict=True)]
    return max(gaps)


async def test_logprobs_are_those_of_the_policy_in_a_padded_batch(
    engine: TransformersEngine, policy_dir: Path
) -> None:
    batch = requests(policy_dir, 5)
    assert len({len(request.prompt_ids) for request in batch}) > 1
    assert max(await asyncio.gather(*(largest_gap(engine, r) for r in batch))) < 1e-4


async def test_a_batch_samples_what_its_requests_sample_alone(
    engine: TransformersEngine, policy_dir: Path
) -> None:
    batch = requests(policy_dir, 4)
    together = await asyncio.gather(*(engine.generate(request) for request in batch))
    alone = [await engine.generate(request) for request in batch]
    assert [[c.token_ids for c in group] for group in together] == [
        [c.token_ids for c in group] for group in alone
    ]


async def test_streams_differ_between_completions_and_seeds(
    engine: TransformersEngine, policy_dir: Path
) -> None:
    first, second = requests(policy_dir, 1, seed=1) + requests(policy_dir, 1, seed=2)
    second = GenerationRequest(first.prompt_ids, 4, first.sampling, second.seed)
    texts = {c.token_ids for r in (first, second) for c in await engine.generate(r)}
    assert len(texts) == 8


async def test_logprobs_are_of_the_tempered_distribution(
    engine: TransformersEngine, policy_dir: Path
) -> None:
    request = requests(policy_dir, 1, sampling=Sampling(8, temperature=0.5))[0]
    model = AutoModelForCausalLM.from_pretrained(policy_dir)
    for completion in await engine.generate(request):
        ids = torch.tensor([request.prompt_ids + completion.token_ids])
        with torch.inference_mode():
            logits_TV = model(ids).logits[0, len(request.prompt_ids) - 1 : -1] / 0.5
        logprobs_TV = torch.log_softmax(logits_TV, -1)
        expected = logprobs_TV.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        assert completion.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


async def test_completions_end_by_length_or_by_the_turns_end(policy_dir: Path) -> None:
    engine = await TransformersEngine.open(policy_dir, num_threads=1)
    try:
        long = requests(policy_dir, 1, num_completions=64, sampling=Sampling(300))[0]
        completions = await engine.generate(long)
    finally:
        await engine.close()
    assert {c.finish_reason for c in completions} == {FinishReason.LENGTH, FinishReason.STOP}
    for completion in completions:
        ended = completion.finish_reason is FinishReason.STOP
        assert ended or len(completion.token_ids) == 300
        assert (completion.token_ids[-1] == 2) == ended  # <|im_end|>
        assert 2 not in completion.token_ids[:-1]
        assert "<|im_end|>" not in completion.text


async def test_what_does_not_fit_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(EngineError, match="context of 1024"):
        await engine.generate(GenerationRequest((5,) * 1000, 1, Sampling(25), 0))
    with pytest.raises(EngineError, match="empty"):
        await engine.generate(GenerationRequest((), 1, Sampling(25), 0))


async def test_a_cancelled_request_leaves_the_others_alone(
    engine: TransformersEngine, policy_dir: Path
) -> None:
    doomed, kept = requests(policy_dir, 2, sampling=Sampling(200))
    expected = await engine.generate(kept)
    task = asyncio.create_task(engine.generate(doomed))
    others = asyncio.create_task(engine.generate(kept))
    await decoding(engine)
    task.cancel()
    assert await others == expected
    assert task.cancelled() or task.cancelling()


async def test_closing_fails_what_is_pending(policy_dir: Path) -> None:
    engine = await TransformersEngine.open(policy_dir, num_threads=1)
    tasks = [
        asyncio.create_task(engine.generate(request))
        for request in requests(policy_dir, 3, sampling=Sampling(900))
    ]
    await decoding(engine)
    await engine.close()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, EngineUnavailable)
    with pytest.raises(EngineUnavailable):
        await engine.check()


async def test_loaded_weights_serve_and_label_what_comes_next(
    engine: TransformersEngine, policy_dir: Path, tmp_path: Path
) -> None:
    request = requests(policy_dir, 1)[0]
    before = await engine.generate(request)
    published = publish(policy_dir, tmp_path / "v1", version=3, change=shift("proj"))
    await engine.load_weights(published, version=3)
    after = await engine.generate(request)
    assert {v for c in before for v in c.versions} == {0}
    assert {v for c in after for v in c.versions} == {3}
    assert before != after
    assert await engine.holds(3)
    assert not await engine.holds(2)
    reference = await TransformersEngine.open(published, num_threads=1)
    try:
        assert [c.token_ids for c in after] == [
            c.token_ids for c in await reference.generate(request)
        ]
    finally:
        await reference.close()


async def test_weights_of_another_model_are_refused_and_change_nothing(
    engine: TransformersEngine, policy_dir: Path, tmp_path: Path
) -> None:
    from etude_rollout.models.tiny import make_model

    request = requests(policy_dir, 1)[0]
    before = await engine.generate(request)
    make_model(tmp_path / "wide", hidden_size=128)
    make_model(tmp_path / "deep", num_layers=3)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no safetensors")
    for name, reason in (
        ("wide", "shape"),
        ("deep", "unknown"),
        ("empty", "no \\*.safetensors"),
        ("broken", "broken"),
    ):
        with pytest.raises(WeightsRefused, match=reason):
            await engine.load_weights(tmp_path / name, version=1)
    assert await engine.generate(request) == before
    assert engine.version == 0


async def test_there_must_be_a_model(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no model"):
        await TransformersEngine.open(tmp_path)
