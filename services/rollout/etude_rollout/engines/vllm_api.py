"""The routes of a vLLM server that Etude uses, and the shapes of their answers.

Generation over the OpenAI-compatible `/v1/completions`, weights over the control routes that
`VLLM_SERVER_DEV_MODE` opens (platform.md section 3). Used by `vllm_engine.py` only.
"""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from .base import EngineError, EngineUnavailable, GenerationRequest

CONNECT_TIMEOUT_S = 5.0
CONTROL_TIMEOUT_S = 300.0


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


_AnswerT = TypeVar("_AnswerT", bound=_Answer)


class Logprobs(_Answer):
    """Of the sampled tokens."""

    token_logprobs: list[float | None]


class PromptLogprob(_Answer):
    """Of one token of the prompt."""

    logprob: float


class Choice(_Answer):
    """One completion."""

    index: int
    text: str
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: Logprobs | None = None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None = None


class Completions(_Answer):
    """Answer of `/v1/completions`."""

    choices: list[Choice]


class ServedModel(_Answer):
    """One entry of `/v1/models`."""

    id: str
    root: str | None = None
    max_model_len: int | None = None


class ServedModels(_Answer):
    """Answer of `/v1/models`."""

    data: list[ServedModel]


class WeightInfo(_Answer):
    """Answer of `/weight_info`: the label given with the last update."""

    weight_version: str


class Version(_Answer):
    """Answer of `/version`."""

    version: str


class VllmApi:
    """One method for each route. All raise `EngineUnavailable` when there is no answer, and
    `EngineError` when the answer is a refusal or makes no sense."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.AsyncClient(
            base_url=url,
            trust_env=False,
            timeout=httpx.Timeout(CONTROL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def health(self) -> None:
        """Return if the engine behind the server lives."""
        await self._get("/health")

    async def version(self) -> str:
        """vLLM's version."""
        return _parse(Version, await self._get("/version")).version

    async def model(self) -> ServedModel:
        """What is served."""
        models = _parse(ServedModels, await self._get("/v1/models")).data
        if not models:
            raise EngineError(f"{self.url} serves no model")
        return models[0]

    async def weight_version(self) -> str:
        """Label of the loaded weights; `default` after a start."""
        return _parse(WeightInfo, await self._get("/weight_info")).weight_version

    async def complete(self, model: str, request: GenerationRequest) -> list[Choice]:
        """Sample completions of token ids; waits as long as it takes."""
        body = {
            "model": model,
            "prompt": list(request.prompt_ids),
            "n": request.num_completions,
            "max_tokens": request.sampling.max_new_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": request.seed + request.first,  # vLLM adds the completion's number
            "logprobs": 0,
            "return_token_ids": True,
        }
        answer = await self._post("/v1/completions", body, timeout=httpx.Timeout(None))
        return sorted(_parse(Completions, answer).choices, key=lambda choice: choice.index)

    async def score(self, model: str, token_ids: list[list[int]]) -> list[Choice]:
        """Log-probabilities of given tokens, as those of a prompt."""
        body = {
            "model": model,
            "prompt": token_ids,
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
        }
        answer = await self._post("/v1/completions", body)
        return sorted(_parse(Completions, answer).choices, key=lambda choice: choice.index)

    async def is_paused(self) -> bool:
        """Whether generation is frozen."""
        answer = await self._get("/is_paused")
        return bool(TypeAdapter(dict[str, bool]).validate_json(answer.content)["is_paused"])

    async def pause(self) -> None:
        """Freeze what is being generated; it goes on under the new weights."""
        await self._post("/pause?mode=keep", None)

    async def resume(self) -> None:
        """Go on."""
        await self._post("/resume", None)

    async def init_transfer(self, root: str) -> None:
        """Tell the plug-in below which folder weights lie."""
        await self._post("/init_weight_transfer_engine", {"init_info": {"root": root}})

    async def start_update(self) -> None:
        """Open an update; the model stays as it is."""
        await self._post("/start_weight_update", None)

    async def update(self, path: str) -> None:
        """Stage and check a directory; a refusal closes the update, and nothing has changed."""
        await self._post("/update_weights", {"update_info": {"path": path}})

    async def finish_update(self, label: str) -> None:
        """Swap the staged weights in and label them."""
        await self._post("/finish_weight_update", {"weight_version": label})

    async def reset_prefix_cache(self) -> None:
        """Forget keys and values of the old weights."""
        await self._post("/reset_prefix_cache", None)

    async def _get(self, path: str) -> httpx.Response:
        return await self._send(self._client.build_request("GET", path))

    async def _post(
        self, path: str, body: dict[str, Any] | None, *, timeout: httpx.Timeout | None = None
    ) -> httpx.Response:
        return await self._send(
            self._client.build_request(
                "POST", path, json=body, timeout=timeout or self._client.timeout
            )
        )

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._client.send(request)
        except httpx.HTTPError as error:
            detail = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise EngineUnavailable(f"vLLM at {self.url}: {detail}") from error
        if response.status_code in (502, 503, 504):
            raise EngineUnavailable(f"vLLM at {self.url}: {response.status_code}")
        if not response.is_success:
            raise EngineError(
                f"vLLM {request.url.path}: {response.status_code} {response.text[:300]}"
            )
        return response


def _parse(model: type[_AnswerT], response: httpx.Response) -> _AnswerT:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise EngineError(f"vLLM answered something else than a {model.__name__}") from error
