"""The vLLM engine: generation over HTTP (`vllm_api.py`), weights by `vllm_weights.py`.

Every completion is a request of its own, with the seed that vLLM itself would give it in a group:
those that are done in time are kept when others are late, and the prompt's keys and values are
shared by vLLM's prefix cache all the same. The server may be one that the service starts itself
(`vllm_server.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from etude_proto.v1.weights import Transfer

from .base import (
    Completion,
    EngineError,
    EngineInfo,
    EngineUnavailable,
    GenerationRequest,
    cut_off,
)
from .vllm_answers import completion_of, generated_of, scores_of
from .vllm_api import VllmApi
from .vllm_server import VllmOptions, VllmServer
from .vllm_weights import Base, Gate, VllmWeights


class VllmEngine:
    """An `Engine` over one vLLM server. Make it with `open` or `start`."""

    def __init__(
        self,
        api: VllmApi,
        info: EngineInfo,
        base: Base,
        *,
        has_spans: bool,
        server: VllmServer | None,
    ) -> None:
        self._api = api
        self._info = info
        self._gate = Gate()
        self._weights = VllmWeights(api, base, has_spans=has_spans, gate=self._gate)
        self._server = server
        self.has_spans = has_spans
        """Whether the server says which weights sampled which token."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        weights_root: Path,
        dtype: Literal["float32", "bfloat16"],
        model_dir: Path | None = None,
        max_lora_rank: int | None = None,
        server: VllmServer | None = None,
    ) -> VllmEngine:
        """Connect to a server that runs, and take over its control routes.

        Args:
            model_dir: the served checkpoint, where it can be read here.
            max_lora_rank: of the server; null where it is not known.

        Raises:
            EngineError: it does not answer, or lacks the control routes or the plug-in.
        """
        api = VllmApi(url)
        try:
            model = (await api.models())[0]
            precision = {"float32": "fp32", "bfloat16": "bf16"}[dtype]
            info = EngineInfo(
                name=f"vllm-{await api.version()}/{precision}",
                model=model.root or model.id,
                max_context=model.max_model_len or 0,
            )
            if await api.is_paused():  # by a worker that died
                await api.resume()
            has_weights = model_dir is not None and any(model_dir.glob("*.safetensors"))
            base = Base(model.id, model_dir if has_weights else None, max_lora_rank)
            has_spans = await api.has_spans(model.id)
            engine = cls(api, info, base, has_spans=has_spans, server=server)
            await engine._weights.take_over(weights_root)
        except BaseException:
            await api.close()
            raise
        return engine

    @classmethod
    async def start(cls, options: VllmOptions, *, weights_root: Path) -> VllmEngine:
        """Start a server of our own and connect to it.

        Raises:
            EngineError: it does not start.
        """
        server = await VllmServer.start(options)
        try:
            await server.wait_ready()
            return await cls.open(
                options.url,
                weights_root=weights_root,
                dtype=options.dtype,
                model_dir=options.model_dir,
                max_lora_rank=options.max_lora_rank,
                server=server,
            )
        except BaseException:
            await server.stop()
            raise

    @property
    def info(self) -> EngineInfo:
        """What generates."""
        return self._info

    @property
    def version(self) -> int:
        """Policy version of the weights that the next request will meet."""
        return self._weights.served.version

    async def check(self) -> None:
        """Whether the server can generate now.

        Raises:
            EngineUnavailable: it cannot.
            EngineError: it never will again: the process that we started has ended.
        """
        if self._server is not None and self._server.exit_code is not None:
            raise EngineError(f"vLLM ended with exit code {self._server.exit_code}")
        if self._weights.broken is not None:
            raise EngineUnavailable(self._weights.broken)
        await self._api.health()

    async def generate(self, request: GenerationRequest) -> tuple[Completion, ...]:
        """Completions of one prompt; see `Engine.generate`."""
        tasks = [
            asyncio.create_task(self._complete(request, number))
            for number in range(request.num_completions)
        ]
        try:
            await asyncio.wait(
                tasks, timeout=request.timeout_s, return_when=asyncio.FIRST_EXCEPTION
            )
            for task in tasks:
                if task.done():
                    task.result()  # raises what went wrong
            return tuple(task.result() if task.done() else cut_off() for task in tasks)
        finally:
            # Closing a request's connection stops its work.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _complete(self, request: GenerationRequest, number: int) -> Completion:
        async with self._gate.passing():
            served, num_top = self._weights.served, request.sampling.num_top_logprobs
            if not self.has_spans:
                choice = await self._api.complete(served.model, request, number)
                return completion_of(choice, served.version, num_top=num_top)
            generated = await self._api.generate(served.model, request, number)
            now = self._weights.served
            return generated_of(generated, served, now=now, num_top=num_top)

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a text by the server's own tokenizer."""
        return await self._api.tokenize(self._weights.served.model, text)

    async def score_logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of given tokens; see `Engine.score_logprobs`."""
        probes = [list(ids) for ids in token_ids]
        choices = await self._api.score(self._weights.served.model, probes)
        return [scores_of(choice, ids) for choice, ids in zip(choices, probes, strict=True)]

    async def load_weights(self, directory: Path, *, version: int) -> None:
        """Take the weights of a published directory; see `Engine.load_weights`."""
        await self._weights.load(directory, version)

    async def world_size(self) -> int:
        """The server's processes."""
        return await self._api.world_size()

    async def receive_weights(self, transfer: Transfer, *, version: int) -> None:
        """Take the weights that a trainer sends; see `Engine.receive_weights`."""
        await self._weights.receive(transfer, version)

    async def set_version(self, version: int) -> None:
        """Call the loaded weights by this version; see `VllmWeights.set_version`."""
        await self._weights.set_version(version)

    async def holds(self, version: int) -> bool:
        """Whether the server still has what was loaded last, and this is it."""
        return await self._weights.holds(version)

    async def close(self) -> None:
        """Close the connections, and stop the server if it is ours."""
        await self._api.close()
        if self._server is not None:
            await self._server.stop()
