"""`POST /v1/rollouts`: try a prompt on the policy that is being trained, with scores."""

from __future__ import annotations

import asyncio
import secrets

from fastapi import APIRouter, Request

from etude_proto.v1 import ProblemItem

from ..engines.base import Completion, EngineError, EngineUnavailable, GenerationRequest, Sampling
from ..prompting import Prompt, PromptError
from ..rewards import (
    Gold,
    GoldError,
    RewardConfig,
    RewardConfigError,
    gold_from_task,
    score_completion,
)
from ..service import Generator
from .health import service_of
from .models import RolloutAnswer, RolloutRequest, Score, TriedRollout
from .problems import PROBLEM_RESPONSES, ApiFault

router = APIRouter(responses=PROBLEM_RESPONSES)


def _authorize(request: Request) -> None:
    key = service_of(request).settings.api_key
    if key is None:
        return
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not secrets.compare_digest(given.encode(), key.get_secret_value().encode()):
        raise ApiFault(401, "a valid API key is required")


@router.post("/v1/rollouts", operation_id="create_rollouts")
async def create_rollouts(request: Request, body: RolloutRequest) -> RolloutAnswer:
    """Render a prompt, generate completions, and score them if there is a reference."""
    _authorize(request)
    service = service_of(request)
    generator = service.generator
    if generator is None:
        raise ApiFault(503, "the engine is not ready yet")
    gold, config = _reward(body)
    prompt = _prompt(generator, body)
    default = service.settings.sampling
    sampling = Sampling(
        max_new_tokens=body.max_new_tokens or default.max_new_tokens,
        temperature=default.temperature if body.temperature is None else body.temperature,
        top_p=body.top_p or default.top_p,
    )
    if sampling.temperature == 0 and body.num_rollouts > 1:
        raise _invalid("/num_rollouts", "must be 1 at temperature 0")
    completions = await _generate(
        generator,
        GenerationRequest(prompt.token_ids, body.num_rollouts, sampling, body.seed),
        timeout_s=service.settings.generation_timeout_s,
    )
    return RolloutAnswer(
        policy_version=max((max(c.versions, default=0) for c in completions), default=0),
        engine=generator.engine.info.name,
        prompt=prompt.text,
        num_prompt_tokens=len(prompt.token_ids),
        rollouts=[_tried(completion, prompt, gold, config) for completion in completions],
    )


def _invalid(pointer: str, detail: str) -> ApiFault:
    return ApiFault(422, detail, errors=[ProblemItem(pointer=pointer, detail=detail)])


def _reward(body: RolloutRequest) -> tuple[Gold | None, RewardConfig]:
    spec = body.reward
    try:
        config = RewardConfig(kind=spec.kind, mode=spec.mode, switches=tuple(spec.switches))
    except RewardConfigError as error:
        raise _invalid("/reward", str(error)) from error
    if body.reference is None:
        return None, config
    try:
        return gold_from_task(body.reference.model_dump(mode="json"), mode=spec.mode), config
    except GoldError as error:
        raise _invalid("/reference", str(error)) from error


def _prompt(generator: Generator, body: RolloutRequest) -> Prompt:
    try:
        return generator.prompter.render(body.messages, body.tools)
    except PromptError as error:
        raise _invalid("/messages", str(error)) from error


async def _generate(
    generator: Generator, request: GenerationRequest, *, timeout_s: float
) -> tuple[Completion, ...]:
    needed = len(request.prompt_ids) + request.sampling.max_new_tokens
    if needed > generator.engine.info.max_context:
        raise _invalid(
            "/max_new_tokens",
            f"prompt and completion need {needed} tokens, "
            f"the model holds {generator.engine.info.max_context}",
        )
    try:
        async with asyncio.timeout(timeout_s):
            return await generator.engine.generate(request)
    except (EngineUnavailable, TimeoutError) as error:
        raise ApiFault(503, f"the engine does not answer: {error}") from error
    except EngineError as error:
        raise ApiFault(500, f"the engine failed: {error}") from error


def _tried(
    completion: Completion, prompt: Prompt, gold: Gold | None, config: RewardConfig
) -> TriedRollout:
    text = prompt.prefill + completion.text
    score = None
    if gold is not None:
        scored = score_completion(text, gold, config=config, step=1)
        score = Score(reward=scored.total, success=scored.success, components=scored.components)
    num_tokens = len(completion.token_ids)
    return TriedRollout(
        text=text,
        finish_reason=completion.finish_reason,
        num_tokens=num_tokens,
        mean_logprob=sum(completion.logprobs) / num_tokens if num_tokens else None,
        score=score,
    )
