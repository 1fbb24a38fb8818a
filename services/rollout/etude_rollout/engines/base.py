"""The protocol of an engine and the values that cross it.

Implemented by `transformers_engine.py` and `vllm_engine.py`; used by `episode.py`, which does not
know which of them it talks to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from etude_proto.v1 import FinishReason
from etude_proto.v1.weights import Transfer


class EngineError(Exception):
    """The engine could not do what was asked; says nothing about the policy."""


class EngineUnavailable(EngineError, ConnectionError):
    """The engine is not there (yet, or any more); later it may be."""


class WeightsRefused(EngineError, ValueError):
    """Weights that the engine cannot take; the old ones still serve."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The distribution to sample from, and when to stop."""

    max_new_tokens: int
    temperature: float = 1.0
    """0 takes the most likely token."""
    top_p: float = 1.0
    """Mass of the smallest set of most likely tokens that is kept; 1 keeps all."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; the one that did, and its tokens, belong to it."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end a completion, besides the model's own; they belong to it."""
    num_top_logprobs: int = 0
    """How many of the most likely log-probabilities are wanted at every token (at most 20)."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Several completions of one prompt."""

    prompt_ids: tuple[int, ...]
    num_completions: int
    sampling: Sampling
    seed: int
    """Completion j draws from stream (seed, first + j): same request, same weights, same tokens."""
    first: int = 0
    """Number of the first completion: a later request goes on where an earlier one stopped."""
    timeout_s: float | None = None
    """Completions that take longer are cut off and come back empty, with finish reason `timeout`;
    those that are done by then are kept. Null waits as long as it takes."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy sampled after a prompt. The four sequences have one item per token."""

    token_ids: tuple[int, ...]
    """With the end-of-turn token, if the policy sampled it."""
    logprobs: tuple[float, ...]
    """Log-probability under the distribution that was sampled from, in nats."""
    versions: tuple[int, ...]
    """Policy version that produced each token."""
    text: str
    """Decoded, without special tokens."""
    finish_reason: FinishReason
    top_logprobs: tuple[tuple[float, ...], ...] = ()
    """Where asked for, the most likely log-probabilities at each token, the largest first."""


def cut_off() -> Completion:
    """What is left of a completion that took too long."""
    return Completion((), (), (), "", FinishReason.TIMEOUT)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What generates."""

    name: str
    """With its precision, as in reports: `transformers-5.23/fp32`."""
    model: str
    max_context: int
    """Most tokens of prompt and completion together."""
    vocab_size: int = 0
    """Tokens that the model knows, padding of its table included; 0 where that cannot be told."""


class Engine(Protocol):
    """Generates completions and takes new weights. Methods may be called concurrently."""

    @property
    def info(self) -> EngineInfo:
        """What generates."""

    @property
    def version(self) -> int:
        """Policy version of the weights that the next request will meet."""

    async def check(self) -> None:
        """Whether the engine can generate now.

        Raises:
            EngineUnavailable: it cannot.
        """

    async def generate(self, request: GenerationRequest) -> tuple[Completion, ...]:
        """`num_completions` completions of the prompt, in the order of their streams.

        The prompt is token ids and may end anywhere, also in the middle of an assistant's turn:
        nothing is decoded and encoded again on the way.

        Raises:
            EngineError: nothing was generated. Cancelling the call stops the work.
        """

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of a text by the engine's own tokenizer, without any that it would add.

        Raises:
            EngineError: it cannot say.
        """

    async def score_logprobs(self, token_ids: Sequence[Sequence[int]]) -> list[list[float]]:
        """For each sequence, log p(token t+1 | tokens 0..t) at temperature 1, in nats.

        Raises:
            EngineError: nothing was scored.
        """

    async def load_weights(self, directory: Path, *, version: int) -> None:
        """Take the weights of a published directory, or its adapter; requests after this meet them.

        Raises:
            WeightsRefused: names, shapes or files are wrong; the old weights still serve.
            EngineError: the transfer failed in another way.
        """

    async def world_size(self) -> int:
        """Processes that take part when weights are received from a trainer.

        Raises:
            EngineError: nobody knows.
        """

    async def receive_weights(self, transfer: Transfer, *, version: int) -> None:
        """Take the weights that a trainer sends; requests after this meet them.

        Raises:
            WeightsRefused: they are another model's, or the trainer died, or was too slow; the old
                weights still serve.
            EngineError: the transfer failed in another way.
        """

    async def set_version(self, version: int) -> None:
        """Call the weights that are loaded by this version (they came another way)."""

    async def holds(self, version: int) -> bool:
        """Whether the weights loaded last are still there, and are these.

        An engine behind HTTP may have restarted with the weights it was born with.

        Raises:
            EngineUnavailable: nobody knows.
        """

    async def close(self) -> None:
        """Stop generating and free everything; pending calls fail."""
