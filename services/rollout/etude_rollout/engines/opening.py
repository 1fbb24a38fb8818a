"""Opens the engine that the settings name. The one place that knows all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Engine, EngineError

if TYPE_CHECKING:
    from ..prompting import ChatTokenizer
    from ..settings import RolloutSettings

PROBE = '<think> Zürich, 12.5 °C </think>\n{"name": "f"}'
"""A text that different tokenizers cut differently."""


async def open_engine(settings: RolloutSettings) -> Engine:
    """The engine, ready to generate.

    Raises:
        EngineError: it cannot be had: no model, no server.
    """
    if settings.engine == "vllm":
        from .vllm_engine import VllmEngine

        root = settings.weights_root
        if settings.vllm_url is not None:
            return await VllmEngine.open(
                settings.vllm_url,
                weights_root=root,
                dtype=settings.dtype,
                model_dir=settings.model_path,
                max_lora_rank=settings.vllm_max_lora_rank,
            )
        return await VllmEngine.start(settings.vllm_options(), weights_root=root)
    from .transformers_engine import TransformersEngine

    return await TransformersEngine.open(
        settings.model_path,
        dtype=settings.dtype,
        num_threads=settings.engine_threads,
        max_rows=settings.engine_max_rows,
    )


async def check_vocabulary(engine: Engine, tokenizer: ChatTokenizer) -> None:
    """Whether engine and prompts speak of the same tokens: asked before the first prompt.

    Raises:
        EngineError: they do not; the engine serves another model than `ETUDE_MODEL_PATH`.
    """
    theirs = await engine.tokenize(PROBE)
    ours = tokenizer.encode(PROBE, add_special_tokens=False, verbose=False)
    if theirs != ours:
        raise EngineError(
            f"vocabulary mismatch: {engine.info.model}, which the engine serves, reads a text as "
            f"tokens {theirs[:6]}..., the tokenizer of ETUDE_MODEL_PATH as {ours[:6]}..."
        )
    size = engine.info.vocab_size
    if size and max(ours, default=0) >= size:
        raise EngineError(f"vocabulary mismatch: token {max(ours)} of a model of {size} tokens")
