"""Calls that wait, awaited: each in a thread of its own that nobody has to wait for.

`aio.py` uses it. The event loop's own pool would do for calls that end: one that waits for a
sampler would keep a cancelled program from ending, and several would take the pool from others.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

ValueT = TypeVar("ValueT")


async def in_thread(
    work: Callable[[], ValueT], *, unwanted: Callable[[ValueT], None] | None = None
) -> ValueT:
    """What the work returns or raises.

    Args:
        work: goes on to its end in any case.
        unwanted: told of the result if the caller was cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[ValueT] = loop.create_future()
    context = contextvars.copy_context()

    def give_up(value: ValueT) -> None:
        if unwanted is not None:
            threading.Thread(target=unwanted, args=(value,), daemon=True).start()

    def succeed(value: ValueT) -> None:
        if answer.cancelled():
            give_up(value)
        else:
            answer.set_result(value)

    def fail(error: BaseException) -> None:
        if not answer.cancelled():
            answer.set_exception(error)

    def run() -> None:
        try:
            value = context.run(work)
        except BaseException as error:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(fail, error)
            return
        try:
            loop.call_soon_threadsafe(succeed, value)
        except RuntimeError:
            give_up(value)

    threading.Thread(target=run, name="etude call", daemon=True).start()
    try:
        return await answer
    except asyncio.CancelledError:
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            give_up(answer.result())
        raise
