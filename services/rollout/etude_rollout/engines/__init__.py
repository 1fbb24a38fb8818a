"""Engines: what turns prompt tokens into completions, behind one protocol.

`base.py` is the protocol and its values. `transformers_engine.py` generates in this process
(`decoding.py` is its loop, `sampling.py` its mathematics); `vllm_engine.py` talks HTTP to a vLLM
server, which `vllm_server.py` can start. No module here imports vLLM.
"""

from .base import (
    Completion,
    Engine,
    EngineError,
    EngineInfo,
    EngineUnavailable,
    GenerationRequest,
    Sampling,
    WeightsRefused,
)

__all__ = [
    "Completion",
    "Engine",
    "EngineError",
    "EngineInfo",
    "EngineUnavailable",
    "GenerationRequest",
    "Sampling",
    "WeightsRefused",
]
