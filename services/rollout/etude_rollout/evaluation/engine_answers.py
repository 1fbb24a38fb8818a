"""What answers in an evaluation: the protocol, and the engines of this service behind it.

A server that somebody else runs is `served.py`, the gold `oracle.py`. `running.py` makes one,
`asking.py` and `episodes.py` ask it.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from ..engines.base import Completion, Engine, GenerationRequest
from .items import Item


class Answering(Protocol):
    """What answers a prompt; engines do, and so does `oracle.GoldEngine`."""

    @property
    def name(self) -> str:
        """With its precision, as it is written into every answer."""

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and answer together; 0 where nobody knows."""

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """One completion.

        Raises:
            EngineUnavailable: the engine is away.
            EngineError: it failed on this request.
        """


class EngineAnswers:
    """An engine of this service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.info.name
        self.max_context = engine.info.max_context

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """See `Answering`."""
        (completion,) = await self._engine.generate(request)
        return completion

    async def close(self) -> None:
        """Stop the engine."""
        await self._engine.close()


def item_seed(seed: int, item_id: str) -> int:
    """Seed of one item's answer: the same whatever else is asked, and in which order."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{item_id}".encode()).digest()[:4], "big")
