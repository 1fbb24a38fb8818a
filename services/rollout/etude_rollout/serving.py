"""Serving the app as a process: signals in, exit code out. Called by `cli.py`.

The API stays up while the worker finishes its batches; a second signal cuts that short.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Generator

import uvicorn

from .app import create_app
from .engines.vllm_server import VllmOptions, VllmServer
from .service import RolloutService
from .settings import RolloutSettings

_log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers, which would end the process by the signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(settings: RolloutSettings) -> int:
    """Run until the worker ends, by a signal or by a failure; returns the exit code.

    Raises:
        OSError: the address of the small API cannot be bound.
    """
    listener = socket.create_server((settings.rollout_host, settings.rollout_port))
    app = create_app(settings)
    service: RolloutService = app.state.service
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, _on_signal, service, number)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="api")
    host, port = listener.getsockname()[:2]
    _log.info("api.listening", extra={"url": f"http://{host}:{port}"})
    try:
        # The lifespan starts the service; until then there is nothing to wait for.
        while not server.started and not serving.done():
            await asyncio.wait([serving], timeout=0.05)
        ended = asyncio.create_task(service.wait(), name="service")
        await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = True
        await serving
        for number in SIGNALS:
            loop.remove_signal_handler(number)
    return service.exit_code


def _on_signal(service: RolloutService, number: int) -> None:
    _log.info("signal.received", extra={"signal": signal.Signals(number).name})
    if service.is_stopping:
        service.cut_short()
    else:
        service.stop()


async def serve_child(options: VllmOptions) -> int:
    """Run a vLLM server until it ends or a signal comes; returns its exit code, 0 after a signal.

    Raises:
        EngineError: it cannot be started.
    """
    server = await VllmServer.start(options)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopping.set)
    stopped = asyncio.create_task(stopping.wait())
    ended = asyncio.create_task(server.wait())
    try:
        await asyncio.wait([stopped, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        await server.stop()
    return 0 if stopping.is_set() else await ended
