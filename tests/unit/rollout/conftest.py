"""Fixtures of the rollout service's unit tests: one tiny policy a session."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

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
