"""The clients' engine room: sending a call until it is answered, and keeping leases alive.

Two short loops over the shared decisions of `attempts.py`, one async, one not. The operations are
added by `async_client.py` and `sync_client.py`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from etude_proto.v1 import ExtendRequest, Lease

from . import operations
from .attempts import Attempts, RetryPolicy, TransportFailure
from .call import AnswerT, Call, compressed, is_answer
from .heartbeat import MAX_BEAT_S, AsyncHeartbeat, Heartbeat

if TYPE_CHECKING:
    import httpx

LeaseKind = Literal["prompt", "training"]
"""Which kind of batch a lease claims: the two are extended by different calls."""


def _policy(timeout_s: float, max_attempts: int, deadline_s: float | None) -> RetryPolicy:
    if timeout_s <= 0 or max_attempts < 1 or (deadline_s is not None and deadline_s <= 0):
        raise ValueError("timeout_s and deadline_s must be positive, max_attempts at least 1")
    return RetryPolicy(timeout_s, max_attempts, deadline_s)


def _beat_call(lease: Lease, kind: LeaseKind) -> Call[Lease]:
    request = ExtendRequest(fence=lease.fence, ttl_s=lease.ttl_s)
    if kind == "training":
        return operations.extend_training_batch(lease.id, request, key=None)
    return operations.extend_lease(lease.id, request, key=None)


class AsyncConnection:
    """Settings, pools and retries of `AsyncEtudeClient`.

    Args:
        url: base URL of a sampler, `http://127.0.0.1:8321`.
        api_key: sent as bearer key.
        timeout_s: longest silence of one attempt; long polls add their `wait_s`.
        max_attempts: of one call, the first included.
        deadline_s: longest time of one call with its retries; null for none.
        compress: gzip JSON bodies above 1 KiB and imports.
        transport: an httpx transport for Unix sockets, own certificates, proxies or an app in
            process; environment variables (`HTTP_PROXY`, ...) are not read.

    Raises:
        ValueError: the URL or a limit makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_attempts: int = 8,
        deadline_s: float | None = None,
        compress: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        from .transport import AsyncTransport

        self.url = url
        self._policy = _policy(timeout_s, max_attempts, deadline_s)
        self._compress = compress
        self._transport = AsyncTransport(url, api_key=api_key, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def _send(self, call: Call[AnswerT], *, policy: RetryPolicy | None = None) -> AnswerT:
        call = compressed(call) if self._compress else call
        attempts = Attempts(call, policy or self._policy)
        while True:
            try:
                answer = await self._transport.send(call, attempts.timeout_s())
            except TransportFailure as failure:
                delay_s = attempts.after_failure(failure)
            else:
                if is_answer(call, answer):
                    return call.decode(answer)
                delay_s = attempts.after_refusal(answer)
            await asyncio.sleep(delay_s)

    def heartbeat(
        self,
        lease: Lease,
        *,
        every: float | None = None,
        kind: LeaseKind = "prompt",
        cancel: bool = True,
    ) -> AsyncHeartbeat:
        """Keep a lease alive in the background: `async with client.heartbeat(lease) as beat`.

        Leave the block before the last report or the ack: both extend the lease themselves, and a
        beat that overtakes them would find it settled.

        Args:
            lease: what to extend, always by its own `ttl_s`.
            every: seconds between beats; default: a third of `ttl_s`.
            kind: whether the lease is on a prompt batch or on a training batch.
            cancel: cancel the block when the lease is lost; else only its end says so.

        Raises:
            LeaseSuperseded, LeaseNotFound: from the block's end, when the lease is lost.
        """
        every_s = lease.ttl_s / 3 if every is None else every
        policy = replace(self._policy, deadline_s=min(max(every_s, 1.0), MAX_BEAT_S))

        async def extend(current: Lease) -> Lease:
            return await self._send(_beat_call(current, kind), policy=policy)

        return AsyncHeartbeat(lease, extend, every_s=every_s, cancel=cancel)


class Connection:
    """Settings, pools and retries of `EtudeClient`; arguments as for `AsyncConnection`."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        max_attempts: int = 8,
        deadline_s: float | None = None,
        compress: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        from .transport import SyncTransport

        self.url = url
        self._policy = _policy(timeout_s, max_attempts, deadline_s)
        self._compress = compress
        self._transport = SyncTransport(url, api_key=api_key, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _send(self, call: Call[AnswerT], *, policy: RetryPolicy | None = None) -> AnswerT:
        call = compressed(call) if self._compress else call
        attempts = Attempts(call, policy or self._policy)
        while True:
            try:
                answer = self._transport.send(call, attempts.timeout_s())
            except TransportFailure as failure:
                delay_s = attempts.after_failure(failure)
            else:
                if is_answer(call, answer):
                    return call.decode(answer)
                delay_s = attempts.after_refusal(answer)
            time.sleep(delay_s)

    def heartbeat(
        self, lease: Lease, *, every: float | None = None, kind: LeaseKind = "prompt"
    ) -> Heartbeat:
        """Keep a lease alive from a thread: `with client.heartbeat(lease) as beat`.

        As `AsyncConnection.heartbeat`, but a lost lease does not interrupt the block: call
        `beat.check()` between steps.
        """
        every_s = lease.ttl_s / 3 if every is None else every
        policy = replace(self._policy, deadline_s=min(max(every_s, 1.0), MAX_BEAT_S))

        def extend(current: Lease) -> Lease:
            return self._send(_beat_call(current, kind), policy=policy)

        return Heartbeat(lease, extend, every_s=every_s)
