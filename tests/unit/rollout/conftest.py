"""Fixtures of the rollout service's unit tests: one tiny policy a session."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from etude_rollout.tools.opening import Environments
from support.rollout_parts import tiny_policy


@pytest.fixture(scope="session")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny policy with random weights; not to be changed."""
    return tiny_policy(tmp_path_factory.mktemp("policy") / "tiny")


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="session")
def made() -> Iterator[Environments]:
    """Environments that tests share: one nursery of sandboxes, no tool servers."""
    environments = Environments()
    yield environments
    asyncio.run(environments.close())
