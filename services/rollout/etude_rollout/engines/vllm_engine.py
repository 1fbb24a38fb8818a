"""The vLLM engine: generation and weight updates over HTTP (`vllm_api.py`).

Weights go through the staged plug-in (`weights/vllm_plugin.py`) in one fixed order: pause (keep)
-> start -> update -> finish -> reset the prefix cache -> resume. Requests frozen meanwhile go on
under the new weights; such a completion carries the older version throughout, so its staleness is
never understated. The server may be one that the service starts itself (`vllm_server.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from etude_proto.v1 import FinishReason

from .base import (
    Completion,
    EngineError,
    EngineInfo,
    EngineUnavailable,
    GenerationRequest,
    WeightsRefused,
)
from .vllm_api import Choice, VllmApi
from .vllm_server import VllmOptions, VllmServer

_log = logging.getLogger(__name__)

_FINISH_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_UNTOUCHED = "default"
"""vLLM's label of the weights it was started with."""


def weight_label(version: int) -> str:
    """What vLLM calls a policy version's weights."""
    return f"v{version}"


class VllmEngine:
    """An `Engine` over one vLLM server. Make it with `open` or `start`."""

    def __init__(
        self, api: VllmApi, info: EngineInfo, model: str, *, server: VllmServer | None
    ) -> None:
        self._api = api
        self._info = info
        self._model = model
        self._server = server
        self._version = 0
        self._broken: str | None = None
        """Why the server needs a restart."""
        self._control = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        weights_root: Path,
        dtype: Literal["float32", "bfloat16"],
        server: VllmServer | None = None,
    ) -> VllmEngine:
        """Connect to a server that runs, and take over its control routes.

        Raises:
            EngineError: it does not answer, or lacks the control routes or the plug-in.
        """
        api = VllmApi(url)
        try:
            model = await api.model()
            precision = {"float32": "fp32", "bfloat16": "bf16"}[dtype]
            info = EngineInfo(
                name=f"vllm-{await api.version()}/{precision}",
                model=model.root or model.id,
                max_context=model.max_model_len or 0,
            )
            engine = cls(api, info, model.id, server=server)
            await engine._take_over(weights_root)
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
                options.url, weights_root=weights_root, dtype=options.dtype, server=server
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
        return self._version

    async def check(self) -> None:
        """Whether the server can generate now.

        Raises:
            EngineUnavailable: it cannot.
            EngineError: it never will again: the process that we started has ended.
        """
        if self._server is not None and self._server.exit_code is not None:
            raise EngineError(f"vLLM ended with exit code {self._server.exit_code}")
        if self._broken is not None:
            raise EngineUnavailable(self._broken)
        await self._api.health()

    async def generate(self, request: GenerationRequest) -> tuple[Completion, ...]:
        """Completions of one prompt; see `Engine.generate`."""
        version = self._version
        choices = await self._api.complete(self._model, request)
        if len(choices) != request.num_completions:
            raise EngineError(f"vLLM gave {len(choices)} of {request.num_completions} completions")
        return tuple(_completion(choice, version) for choice in choices)

    async def score_logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of given tokens; see `Engine.score_logprobs`."""
        probes = [list(ids) for ids in token_ids]
        choices = await self._api.score(self._model, probes)
        return [_scores(choice, ids) for choice, ids in zip(choices, probes, strict=True)]

    async def load_weights(self, directory: Path, *, version: int) -> None:
        """Take the weights of a published directory; see `Engine.load_weights`."""
        async with self._control:
            await self._api.pause()
            try:
                await self._start_update()
                try:
                    await self._api.update(str(directory))
                except EngineUnavailable:
                    raise
                except EngineError as error:
                    raise WeightsRefused(f"{directory}: {error}") from error
                await self._finish_update(version)
                await self._api.reset_prefix_cache()
            finally:
                if self._broken is None:
                    await self._api.resume()

    async def set_version(self, version: int) -> None:
        """Call the loaded weights by this version.

        Raises:
            EngineError: the first version is asked for, and the server holds a later one.
        """
        if version == 0:
            label = await self._api.weight_version()
            if label not in (_UNTOUCHED, weight_label(0)):
                raise EngineError(
                    f"vLLM holds weights {label} of an earlier run; restart it to serve its model"
                )
        self._version = version

    async def holds(self, version: int) -> bool:
        """Whether the server still has what was loaded last, and this is it."""
        label = await self._api.weight_version()
        return version == self._version and label == weight_label(version)

    async def close(self) -> None:
        """Close the connections, and stop the server if it is ours."""
        await self._api.close()
        if self._server is not None:
            await self._server.stop()

    async def _take_over(self, weights_root: Path) -> None:
        """Undo what a worker may have left behind, and announce the root."""
        try:
            if await self._api.is_paused():
                await self._api.resume()
            await self._api.init_transfer(str(weights_root.resolve()))
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise EngineError(
                "this vLLM cannot take weights: start it with `etude-rollout serve-vllm` "
                f"in an environment that has etude-rollout installed ({error})"
            ) from error

    async def _start_update(self) -> None:
        try:
            await self._api.start_update()
        except EngineUnavailable:
            raise
        except EngineError:
            # A worker that died left an update open. Only a failing one closes it; no directory
            # lies below a root under the root's own name, so this fails and changes nothing.
            try:
                await self._api.update(".")
            except EngineError as error:
                _log.warning("vllm.update_closed", extra={"detail": error})
            await self._api.start_update()

    async def _finish_update(self, version: int) -> None:
        try:
            await self._api.finish_update(weight_label(version))
        except EngineError as error:
            # Nobody knows what the model holds now: it must not generate another token.
            self._broken = f"vLLM failed while it swapped weights, restart it: {error}"
            raise EngineError(self._broken) from error
        self._version = version


def _completion(choice: Choice, version: int) -> Completion:
    if choice.token_ids is None or choice.logprobs is None:
        raise EngineError("vLLM gave no token ids or no logprobs")
    logprobs = [value for value in choice.logprobs.token_logprobs if value is not None]
    if len(logprobs) != len(choice.token_ids):
        raise EngineError(f"vLLM gave {len(choice.token_ids)} tokens and {len(logprobs)} logprobs")
    return Completion(
        token_ids=tuple(choice.token_ids),
        logprobs=tuple(logprobs),
        versions=(version,) * len(choice.token_ids),
        text=choice.text,
        finish_reason=_FINISH_REASONS.get(choice.finish_reason or "", FinishReason.ABORTED),
    )


def _scores(choice: Choice, ids: list[int]) -> list[float]:
    rows = choice.prompt_logprobs
    if rows is None or len(rows) != len(ids):
        raise EngineError("vLLM gave no prompt_logprobs")
    try:
        return [
            row[str(token)].logprob
            for row, token in zip(rows[1:], ids[1:], strict=True)
            if row is not None
        ]
    except KeyError as error:
        raise EngineError(f"vLLM scored another token than {error}") from error
