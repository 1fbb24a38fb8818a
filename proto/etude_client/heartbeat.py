"""Heartbeats: a lease kept alive beside the work that it covers.

Made by the clients' `heartbeat`. A beat that fails for want of a server is tried again at the next
one, for the server's clock decides; a beat that is refused means that the lease is lost.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from etude_proto.v1 import Lease

from .errors import Busy, EtudeError, IdempotencyInProgress, InternalError, Unreachable

MAX_BEAT_S = 5.0
"""Longest time of one beat, retries included."""


def _is_fatal(error: EtudeError) -> bool:
    return not isinstance(error, Unreachable | Busy | InternalError | IdempotencyInProgress)


class AsyncHeartbeat:
    """Extends a lease in the background until the block ends.

    When the lease is lost, the block is cancelled and ends with the refusal (`LeaseSuperseded`,
    `LeaseNotFound`). With `cancel=False` the block goes on; `check` tells, and so does its end.
    """

    def __init__(
        self,
        lease: Lease,
        extend: Callable[[Lease], Awaitable[Lease]],
        *,
        every_s: float,
        cancel: bool,
    ) -> None:
        self.lease = lease
        """The lease with its newest deadline."""
        self.error: EtudeError | None = None
        """Why the lease was lost."""
        self._extend = extend
        self._every_s = every_s
        self._cancel = cancel
        self._is_closing = False
        self._num_cancels = 0

    def check(self) -> None:
        """Raise the refusal if the lease was lost."""
        if self.error is not None:
            raise self.error

    async def __aenter__(self) -> Self:
        owner = asyncio.current_task()
        if owner is None:
            raise RuntimeError("a heartbeat needs a running task")
        self._owner = owner
        self._num_cancels = owner.cancelling()
        self._beats = asyncio.create_task(self._run(), name=f"heartbeat {self.lease.id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closing = True
        was_cancelled = self._cancel and self.error is not None and self._beats.done()
        self._beats.cancel()
        await asyncio.wait([self._beats])
        if was_cancelled and self._owner.uncancel() > self._num_cancels:
            return  # somebody else cancelled the task too: let that go through
        if self.error is not None and (kind is None or kind is asyncio.CancelledError):
            raise self.error from None
        if kind is None and not self._beats.cancelled():
            self._beats.result()

    async def _run(self) -> None:
        while self.error is None and not self._is_closing:
            await asyncio.sleep(self._every_s)
            try:
                self.lease = await self._extend(self.lease)
            except EtudeError as error:
                if _is_fatal(error):
                    self.error = error
        if self._cancel and not self._is_closing:
            self._owner.cancel(f"lease {self.lease.id} is lost")


class Heartbeat:
    """Extends a lease from a thread until the block ends.

    A lost lease cannot interrupt the block: call `check` between steps. The block's end raises the
    refusal, unless it ends with an exception of its own.
    """

    def __init__(self, lease: Lease, extend: Callable[[Lease], Lease], *, every_s: float) -> None:
        self.lease = lease
        """The lease with its newest deadline."""
        self.error: EtudeError | None = None
        """Why the lease was lost."""
        self._extend = extend
        self._every_s = every_s
        self._is_closing = threading.Event()
        self._beats = threading.Thread(target=self._run, name=f"heartbeat {lease.id}", daemon=True)

    def check(self) -> None:
        """Raise the refusal if the lease was lost."""
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        self._beats.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closing.set()
        self._beats.join()
        if kind is None:
            self.check()

    def _run(self) -> None:
        while self.error is None and not self._is_closing.wait(self._every_s):
            try:
                self.lease = self._extend(self.lease)
            except EtudeError as error:
                if _is_fatal(error) and not self._is_closing.is_set():
                    self.error = error
