"""A vLLM server that belongs to somebody else, as answerer of an evaluation.

It is only read from: no control route is touched, so that a server that rolls out for a run can be
evaluated beside it. If its weights change meanwhile, the evaluation stops, because its answers
would be of two models. Used by `running.py`; the worker's own client is in `engines/`.
"""

from __future__ import annotations

from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from etude_proto.v1 import FinishReason

from ..engines.base import Completion, EngineError, EngineUnavailable, GenerationRequest
from .items import Item

UNLABELLED = "unlabelled"
"""Weights of a server that does not say which it holds."""
CONNECT_TIMEOUT_S = 5.0
_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Version(_Answer):
    version: str


class _Model(_Answer):
    id: str
    root: str | None = None
    max_model_len: int | None = None


class _Models(_Answer):
    data: list[_Model]


class _Weights(_Answer):
    weight_version: str


class _Choice(_Answer):
    text: str
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Completions(_Answer):
    choices: list[_Choice]


_AnswerT = TypeVar("_AnswerT", bound=_Answer)


class ServedAnswers:
    """Answers of a running server. Make it with `open`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._model = ""
        self.name = ""
        self.max_context = 0
        self.root = ""
        """Where the server has its model from."""
        self.weights = UNLABELLED
        """The server's label of the weights that answer."""

    @classmethod
    async def open(cls, url: str, *, precision: str) -> ServedAnswers:
        """Connect; `precision` is what the server does not say.

        Raises:
            EngineUnavailable: nobody answers.
            EngineError: what answers is no vLLM server, or serves nothing.
        """
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        limits = httpx.Limits(max_connections=None)
        served = cls(
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=timeout, limits=limits)
        )
        try:
            models = (await served._get("/v1/models", _Models)).data
            if not models:
                raise EngineError(f"{url} serves no model")
            version = (await served._get("/version", _Version)).version
            served.name = f"vllm-{version}/{precision}"
            served._model = models[0].id
            served.root = models[0].root or models[0].id
            served.max_context = models[0].max_model_len or 0
            served.weights = await served._label()
        except BaseException:
            await served.close()
            raise
        return served

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """See `Answering`; also unavailable when the weights have changed."""
        body = {
            "model": self._model,
            "prompt": list(request.prompt_ids),
            "max_tokens": request.sampling.max_new_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "seed": request.seed,
            "return_token_ids": True,
        }
        answer = await self._send("POST", "/v1/completions", _Completions, json=body)
        label = await self._label()
        if label != self.weights:
            raise EngineUnavailable(
                f"the server's weights changed from {self.weights!r} to {label!r}"
            )
        if len(answer.choices) != 1 or answer.choices[0].token_ids is None:
            raise EngineError("the server gave no token ids")
        choice = answer.choices[0]
        ids = tuple(choice.token_ids or ())
        return Completion(
            token_ids=ids,
            logprobs=(0.0,) * len(ids),
            versions=(0,) * len(ids),
            text=choice.text,
            finish_reason=_FINISH_REASONS.get(choice.finish_reason or "", FinishReason.ABORTED),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _label(self) -> str:
        """The server's label of its weights; not every server has the route."""
        try:
            return (await self._get("/weight_info", _Weights)).weight_version
        except EngineUnavailable:
            raise
        except EngineError:
            return UNLABELLED

    async def _get(self, path: str, shape: type[_AnswerT]) -> _AnswerT:
        return await self._send("GET", path, shape)

    async def _send(
        self, method: str, path: str, shape: type[_AnswerT], *, json: object = None
    ) -> _AnswerT:
        """
        Raises:
            EngineUnavailable: no answer.
            EngineError: a refusal, or something else than was asked for.
        """
        place = f"the server at {self._client.base_url}"
        try:
            response = await self._client.request(method, path, json=json)
        except httpx.HTTPError as error:
            detail = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise EngineUnavailable(f"{place}: {detail}") from error
        if response.status_code in (502, 503, 504):
            raise EngineUnavailable(f"{place}: {response.status_code}")
        if not response.is_success:
            raise EngineError(f"{place}: {path}: {response.status_code} {response.text[:200]}")
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            raise EngineError(f"{place}: {path} answers something else than vLLM") from error
