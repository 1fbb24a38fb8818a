"""Fixtures of the contract's unit tests: the scripted server and clients that call it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from etude_client import AsyncEtudeClient, EtudeClient
from support.scripted_server import ScriptedServer, scripted_server
from support.shared_data import shared_data

__all__ = ["shared_data"]


@pytest.fixture(scope="session")
def running_server() -> Iterator[ScriptedServer]:
    """The scripted server of this test process."""
    with scripted_server() as running:
        yield running


@pytest.fixture
def server(running_server: ScriptedServer) -> ScriptedServer:
    """The scripted server, without a script."""
    running_server.clear()
    return running_server


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[AsyncEtudeClient]:
    """An async client that gives up silent attempts after half a second."""
    async with AsyncEtudeClient(server.url, timeout_s=0.5) as opened:
        yield opened


@pytest.fixture
def sync_client(server: ScriptedServer) -> Iterator[EtudeClient]:
    """Its twin."""
    with EtudeClient(server.url, timeout_s=0.5) as opened:
        yield opened
