"""Limits and options of episodes; one choice for a whole worker. Made by the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CallFormat = Literal["toolrl", "hermes", "llama3"]
"""How calls stand in a turn: `calls.py`."""

PARALLEL_TURNS = 4
"""Most turns with calls under `parallel_tools` (RAG-R1, 2507.02962)."""


@dataclass(frozen=True, slots=True)
class Branching:
    """ARPO's branching after tool results (2507.19849; algorithms.md 8)."""

    num_roots: int
    """N: chains that a group begins with; branches, and then fresh chains, fill it up."""
    weight: float = 0.2
    """w: how much a rise of the entropy adds to the probability of a branch."""


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """How long an episode may be, and how its calls are executed."""

    call_format: CallFormat | Literal["auto"] = "auto"
    max_turns: int = 32
    """Turns of the assistant in an episode; then it ends with finish reason `max_turns`."""
    max_calls: int = 128
    """Calls in an episode; the turn that asks for more ends it with `tool_limit`."""
    max_tokens: int | None = None
    """Tokens of an episode, prompt and observations included; null: the engine's context."""
    call_timeout_s: float = 30.0
    """A call that takes longer is an infrastructure failure."""
    max_observation_chars: int = 8192
    """Longest answer of a call that is shown; the rest is cut."""
    parallel_tools: bool = False
    """Run a turn's calls at the same time and show their results in one JSON text (RAG-R1)."""
    parallel_calls: int = 3
    """Most calls of a turn under `parallel_tools`; what is beyond is answered by an error."""
    branching: Branching | None = None
