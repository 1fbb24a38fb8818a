"""Engines that answer: one of the worker's own, or a running server that is only read from.

`EngineAnswers` wraps the engines of `engines/`. `ServedAnswers` asks a vLLM server over HTTP and
touches none of its control routes, so that a server that also rolls out for a run can be evaluated;
if its weights change meanwhile, the evaluation stops. Used by `running.py`.
"""

from __future__ import annotations

from etude_proto.v1 import FinishReason

from ..engines.base import (
    Completion,
    Engine,
    EngineError,
    EngineUnavailable,
    GenerationRequest,
)
from ..engines.vllm_api import Choice, VllmApi
from .items import Item

UNLABELLED = "unlabelled"
"""Weights of a server that does not say which it holds."""
_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class EngineAnswers:
    """An engine of this service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.info.name
        self.max_context = engine.info.max_context

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """See `asking.Answering`."""
        (completion,) = await self._engine.generate(request)
        return completion

    async def close(self) -> None:
        """Stop the engine."""
        await self._engine.close()


class ServedAnswers:
    """A vLLM server that belongs to somebody else. Make it with `open`."""

    def __init__(self, api: VllmApi, *, name: str, model: str, max_context: int) -> None:
        self._api = api
        self._model = model
        self.name = name
        self.max_context = max_context
        self.weights = UNLABELLED
        """The server's label of the weights that answer."""

    @classmethod
    async def open(cls, url: str, *, precision: str) -> tuple[ServedAnswers, str]:
        """Connect; also returns where the server has its model from.

        Raises:
            EngineUnavailable: nobody answers.
            EngineError: what answers is no vLLM server.
        """
        api = VllmApi(url)
        try:
            model = await api.model()
            version = await api.version()
            served = cls(
                api,
                name=f"vllm-{version}/{precision}",
                model=model.id,
                max_context=model.max_model_len or 0,
            )
            served.weights = await served._label()
        except BaseException:
            await api.close()
            raise
        return served, model.root or model.id

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """See `asking.Answering`; also unavailable when the weights have changed."""
        (choice,) = await self._api.complete(self._model, request)
        label = await self._label()
        if label != self.weights:
            raise EngineUnavailable(f"the server's weights changed from {self.weights} to {label}")
        return _completion(choice)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _label(self) -> str:
        """The server's label of its weights; it is a development route, not every server has it."""
        try:
            return await self._api.weight_version()
        except EngineUnavailable:
            raise
        except EngineError:
            return UNLABELLED


def _completion(choice: Choice) -> Completion:
    """
    Raises:
        EngineError: there are no token ids.
    """
    if choice.token_ids is None:
        raise EngineError("the server gave no token ids")
    ids = tuple(choice.token_ids)
    return Completion(
        token_ids=ids,
        logprobs=(0.0,) * len(ids),
        versions=(0,) * len(ids),
        text=choice.text,
        finish_reason=_FINISH_REASONS.get(choice.finish_reason or "", FinishReason.ABORTED),
    )
