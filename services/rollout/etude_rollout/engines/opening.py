"""Opens the engine that the settings name. The one place that knows all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Engine

if TYPE_CHECKING:
    from ..settings import RolloutSettings


async def open_engine(settings: RolloutSettings) -> Engine:
    """The engine, ready to generate.

    Raises:
        EngineError: it cannot be had: no model, no server.
    """
    if settings.engine == "vllm":
        from .vllm_engine import VllmEngine

        root = settings.weights_root
        if settings.vllm_url is not None:
            return await VllmEngine.open(settings.vllm_url, weights_root=root, dtype=settings.dtype)
        return await VllmEngine.start(settings.vllm_options(), weights_root=root)
    from .transformers_engine import TransformersEngine

    return await TransformersEngine.open(
        settings.model_path,
        dtype=settings.dtype,
        num_threads=settings.engine_threads,
        max_rows=settings.engine_max_rows,
    )
