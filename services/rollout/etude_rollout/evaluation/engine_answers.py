"""The engines of this service as answerers of an evaluation. Used by `running.py`.

A server that somebody else runs is `served.py`, the gold `oracle.py`.
"""

from __future__ import annotations

from ..engines.base import Completion, Engine, GenerationRequest
from .items import Item


class EngineAnswers:
    """An engine of this service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.info.name
        self.max_context = engine.info.max_context

    async def answer(self, item: Item, request: GenerationRequest) -> Completion:
        """See `asking.Answering`."""
        (completion,) = await self._engine.generate(request)
        return completion

    async def close(self) -> None:
        """Stop the engine."""
        await self._engine.close()
