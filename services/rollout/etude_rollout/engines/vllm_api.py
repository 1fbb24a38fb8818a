"""The routes of a vLLM server that Etude uses; `vllm_wire.py` has the shapes of their answers.

Generation over `/inference/v1/generate`, which says which weights sampled which token, or else over
the OpenAI-compatible `/v1/completions`; weights over the control routes that `VLLM_SERVER_DEV_MODE`
opens (platform.md section 3). Used by `vllm_engine.py` and `vllm_weights.py`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from .base import EngineError, EngineUnavailable, GenerationRequest
from .vllm_wire import (
    Answer,
    CacheReset,
    Choice,
    Completions,
    Generated,
    Generation,
    ServedModel,
    ServedModels,
    Tokens,
    Version,
    WeightInfo,
    WorldSize,
)

CONNECT_TIMEOUT_S = 5.0
CONTROL_TIMEOUT_S = 300.0
GENERATING = ("/v1/completions", "/inference/", "/tokenize")
"""Routes that share their connections."""


_AnswerT = TypeVar("_AnswerT", bound=Answer)


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

    async def models(self) -> list[ServedModel]:
        """What is served: the model, then its adapters."""
        models = _parse(ServedModels, await self._get("/v1/models")).data
        if not models:
            raise EngineError(f"{self.url} serves no model")
        return models

    async def world_size(self) -> int:
        """Processes that hold parts of the model, over all data-parallel replicas."""
        return _parse(WorldSize, await self._get("/get_world_size")).world_size

    async def weight_version(self) -> str:
        """Label of the loaded weights; `default` after a start."""
        return _parse(WeightInfo, await self._get("/weight_info")).weight_version

    async def complete(self, model: str, request: GenerationRequest, number: int) -> Choice:
        """Sample completion `number` of a request; waits as long as it takes."""
        body = {
            "model": model,
            "prompt": list(request.prompt_ids),
            "return_token_ids": True,
            **_sampling(request, number),
        }
        answer = await self._post("/v1/completions", body, timeout=httpx.Timeout(None))
        return _only(_parse(Completions, answer).choices)

    async def generate(self, model: str, request: GenerationRequest, number: int) -> Generated:
        """The same over the route that reports the weights of every token."""
        body = {
            "model": model,
            "token_ids": list(request.prompt_ids),
            "output_mode": "text",
            "sampling_params": _sampling(request, number),
        }
        answer = await self._post("/inference/v1/generate", body, timeout=httpx.Timeout(None))
        return _only(_parse(Generation, answer).choices)

    async def has_spans(self, model: str) -> bool:
        """Whether `/inference/v1/generate` is open and reports the weights of every token."""
        body = {"model": model, "token_ids": [0], "output_mode": "text"}
        try:
            answer = await self._post(
                "/inference/v1/generate", {**body, "sampling_params": {"max_tokens": 1}}
            )
            return _only(_parse(Generation, answer).choices).weight_versions is not None
        except EngineUnavailable:
            raise
        except EngineError:
            return False

    async def tokenize(self, model: str, text: str) -> list[int]:
        """Token ids of a text, without any that the tokenizer would add."""
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        return _parse(Tokens, await self._post("/tokenize", body)).tokens

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

    async def update(self, info: dict[str, Any], *, timeout_s: float | None = None) -> None:
        """Stage and check a version; a refusal closes the update, and nothing has changed."""
        timeout = None if timeout_s is None else httpx.Timeout(timeout_s)
        await self._post("/update_weights", {"update_info": info}, timeout=timeout)

    async def finish_update(self, label: str) -> None:
        """Swap the staged weights in and label them."""
        await self._post("/finish_weight_update", {"weight_version": label})

    async def reset_prefix_cache(self) -> None:
        """Forget keys and values of the old weights, also those of requests that are frozen: they
        are computed anew. Without that vLLM forgets nothing while a request holds any."""
        answer = await self._post("/reset_prefix_cache?reset_running_requests=true", None)
        if not _parse(CacheReset, answer).success:
            raise EngineError("vLLM kept its prefix cache over a change of weights")

    async def load_adapter(self, name: str, path: str) -> None:
        """Load a LoRA adapter under a name of its own."""
        await self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})

    async def unload_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it go on to their end."""
        await self._post("/v1/unload_lora_adapter", {"lora_name": name})

    async def _get(self, path: str) -> httpx.Response:
        return await self._send(self._client.build_request("GET", path))

    async def _post(
        self, path: str, body: dict[str, Any] | None, *, timeout: httpx.Timeout | None = None
    ) -> httpx.Response:
        # A control route that fails closes its connection without saying so, and the next request
        # on it would fail as well.
        headers = {} if path.startswith(GENERATING) else {"connection": "close"}
        return await self._send(
            self._client.build_request(
                "POST", path, json=body, headers=headers, timeout=timeout or self._client.timeout
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


def _sampling(request: GenerationRequest, number: int) -> dict[str, Any]:
    """Parameters of one completion; by its seed alone it differs from the group's others."""
    sampling = request.sampling
    return {
        "n": 1,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed + request.first + number,
        "logprobs": sampling.num_top_logprobs,
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_token_ids),
        "include_stop_str_in_output": True,
    }


_ChoiceT = TypeVar("_ChoiceT", Choice, Generated)


def _only(choices: list[_ChoiceT]) -> _ChoiceT:
    if len(choices) != 1:
        raise EngineError(f"vLLM gave {len(choices)} completions of one")
    return choices[0]


def _parse(model: type[_AnswerT], response: httpx.Response) -> _AnswerT:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise EngineError(f"vLLM answered something else than a {model.__name__}") from error
