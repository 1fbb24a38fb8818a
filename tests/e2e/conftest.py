"""Fixtures of the end-to-end tests: one real vLLM server for the modules that drive an engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.vllm_bench import VllmBench, vllm_bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmBench]:
    """Started when the first test wants it; weights are changed by tests, each loads its own."""
    with vllm_bench(tmp_path_factory.mktemp("vllm")) as started:
        yield started
