"""The in-process engine: `transformers` on the CPU (any laptop), in a thread of its own.

Requests that arrive together are decoded together (`decoding.py`); the event loop, and with it
every heartbeat, stays free. Weight loads and probes take their turn in the same thread, so a
completion never mixes two policy versions here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from etude_proto.v1.weights import Transfer

from .base import (
    Completion,
    EngineError,
    EngineInfo,
    EngineUnavailable,
    GenerationRequest,
    WeightsRefused,
    cut_off,
)
from .local_model import LocalModel, load_model, replace_weights

if TYPE_CHECKING:
    import torch

    from .decoding import Row

_log = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")

GATHER_S = 0.01
"""How long the first request of a batch waits for the others that come with it."""


@dataclass(slots=True)
class _Pending:
    """A request and who waits for it; the thread reads this between tokens."""

    request: GenerationRequest
    future: asyncio.Future[tuple[Completion, ...]]
    is_cancelled: bool = False
    is_late: bool = False


class TransformersEngine:
    """An `Engine` over a model directory. Make it with `open`, from a running event loop."""

    def __init__(self, loaded: LocalModel, executor: ThreadPoolExecutor, *, max_rows: int) -> None:
        import transformers

        config = loaded.model.config
        precision = {"torch.float32": "fp32", "torch.bfloat16": "bf16"}[str(loaded.model.dtype)]
        self._info = EngineInfo(
            name=f"transformers-{transformers.__version__}/{precision}",
            model=str(config.name_or_path),
            max_context=int(config.max_position_embeddings),
            vocab_size=int(config.vocab_size),
        )
        self._loaded = loaded
        self._executor = executor
        self._max_rows = max_rows
        self._version = 0
        self._queue: list[_Pending] = []
        self._has_work = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._pump = asyncio.create_task(self._run(), name="engine")
        self._is_closed = False
        self.is_decoding = False  # whether a batch is in the thread

    @classmethod
    async def open(
        cls,
        model_dir: Path,
        *,
        dtype: Literal["float32", "bfloat16"] = "float32",
        num_threads: int | None = None,
        max_rows: int = 64,
    ) -> TransformersEngine:
        """Load a model directory in the engine's thread.

        Args:
            num_threads: threads of torch's kernels; null for torch's own choice.
            max_rows: most completions that are decoded together.

        Raises:
            EngineError: there is no such model.
        """
        executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(executor, load_model, model_dir, dtype, num_threads)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        return cls(loaded, executor, max_rows=max_rows)

    @property
    def info(self) -> EngineInfo:
        """What generates."""
        return self._info

    @property
    def version(self) -> int:
        """Policy version of the weights that the next request will meet."""
        return self._version

    async def check(self) -> None:
        """Whether the engine can generate now.

        Raises:
            EngineUnavailable: it is closed.
        """
        if self._is_closed:
            raise EngineUnavailable("the engine is closed")

    async def generate(self, request: GenerationRequest) -> tuple[Completion, ...]:
        """Completions of one prompt; see `Engine.generate`."""
        await self.check()
        if not request.prompt_ids:
            raise EngineError("the prompt is empty")
        needed = len(request.prompt_ids) + request.sampling.max_new_tokens
        if needed > self._info.max_context:
            raise EngineError(
                f"{needed} tokens do not fit the model's context of {self._info.max_context}"
            )
        pending = _Pending(request, self._loop.create_future())
        self._queue.append(pending)
        self._has_work.set()
        timer = None
        if request.timeout_s is not None:
            timer = self._loop.call_later(request.timeout_s, self._expire, pending)
        try:
            return await pending.future
        except asyncio.CancelledError:
            pending.is_cancelled = True
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def score_logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of given tokens; see `Engine.score_logprobs`."""
        from .decoding import score

        return await self._in_thread(lambda: score(self._loaded.model, token_ids))

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self._loaded.tokenizer.encode(text, add_special_tokens=False)
        return ids

    async def load_weights(self, directory: Path, *, version: int) -> None:
        """Take the weights of a published directory; see `Engine.load_weights`."""
        from ..weights.files import is_adapter, read_tensors

        if is_adapter(directory):
            raise WeightsRefused(f"{directory} is an adapter, which needs the engine vllm")
        staged = await asyncio.to_thread(read_tensors, directory)
        await self._replace(staged, str(directory), version)

    async def world_size(self) -> int:
        """This process alone."""
        return 1

    async def receive_weights(self, transfer: Transfer, *, version: int) -> None:
        """Take the weights that a trainer sends; see `Engine.receive_weights`."""
        import torch

        from ..weights.receiving import receive

        staged = await asyncio.to_thread(receive, transfer, rank=1, device=torch.device("cpu"))
        await self._replace(staged, f"transfer {transfer.session}", version)

    async def _replace(self, staged: dict[str, torch.Tensor], origin: str, version: int) -> None:
        def work() -> None:
            replace_weights(self._loaded.model, staged, origin=origin)
            self._version = version  # in the thread: what is decoded next carries it

        await self._in_thread(work)

    async def set_version(self, version: int) -> None:
        """Call the loaded weights by this version."""

        def work() -> None:
            self._version = version

        await self._in_thread(work)

    async def holds(self, version: int) -> bool:
        """Whether these weights were loaded last: always known, in process."""
        return version == self._version

    async def close(self) -> None:
        """Stop after the token in work; pending calls fail with `EngineUnavailable`."""
        self._is_closed = True
        for pending in self._queue:
            pending.is_cancelled = True
        self._pump.cancel()
        await asyncio.wait([self._pump])
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)

    def _expire(self, pending: _Pending) -> None:
        """Cut a request off: in the queue at once, in the batch after the token in work."""
        pending.is_late = True
        if pending in self._queue:
            self._queue.remove(pending)
            _resolve(pending.future, (cut_off(),) * pending.request.num_completions)

    async def _in_thread(self, work: Callable[[], ResultT]) -> ResultT:
        await self.check()
        return await self._loop.run_in_executor(self._executor, work)

    async def _run(self) -> None:
        batch: list[_Pending] = []
        try:
            while True:
                await self._has_work.wait()
                await asyncio.sleep(GATHER_S)
                batch = self._take_batch()
                if batch:
                    await self._decode(batch)
        finally:
            for pending in (*batch, *self._queue):
                pending.is_cancelled = True
                if not pending.future.done():
                    pending.future.set_exception(EngineUnavailable("the engine was closed"))

    def _take_batch(self) -> list[_Pending]:
        """The oldest requests that fit together: at least one, at most `max_rows` rows."""
        waiting = [pending for pending in self._queue if not pending.is_cancelled]
        num_rows = 0
        batch: list[_Pending] = []
        for pending in waiting:
            num_rows += pending.request.num_completions
            if batch and num_rows > self._max_rows:
                break
            batch.append(pending)
        self._queue = waiting[len(batch) :]
        if not self._queue:
            self._has_work.clear()
        return batch

    async def _decode(self, batch: list[_Pending]) -> None:
        from .decoding import Ends, completion_of, decode

        started = time.monotonic()

        def on_done(index: int, rows: list[Row]) -> None:
            version = self._version
            made = [completion_of(row, text_of=self._text_of, version=version) for row in rows]
            self._loop.call_soon_threadsafe(_resolve, batch[index].future, tuple(made))

        ends = Ends(
            self._loaded.eos_ids,
            self._text_of,
            is_cancelled=lambda index: batch[index].is_cancelled,
            is_late=lambda index: batch[index].is_late,
        )

        def work() -> int:
            requests = [pending.request for pending in batch]
            pad_id = self._loaded.pad_id
            return decode(self._loaded.model, requests, ends=ends, pad_id=pad_id, on_done=on_done)

        self.is_decoding = True
        try:
            num_tokens = await self._loop.run_in_executor(self._executor, work)
        except (RuntimeError, ValueError, IndexError) as error:  # what torch raises
            for pending in batch:
                if not pending.future.done():
                    pending.future.set_exception(EngineError(f"decoding failed: {error}"))
            return
        finally:
            self.is_decoding = False
        seconds = time.monotonic() - started
        _log.debug(
            "engine.batch",
            extra={"num_requests": len(batch), "num_tokens": num_tokens, "seconds": seconds},
        )

    def _text_of(self, token_ids: list[int]) -> str:
        text = self._loaded.tokenizer.decode(token_ids, skip_special_tokens=True)
        assert isinstance(text, str)
        return text


def _resolve(
    future: asyncio.Future[tuple[Completion, ...]], completions: tuple[Completion, ...]
) -> None:
    if not future.done():
        future.set_result(completions)
