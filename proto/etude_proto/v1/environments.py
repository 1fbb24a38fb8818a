"""Environments: what a task's tool calls are answered by, episode by episode.

A task with an environment is played in turns: the policy calls tools, the worker executes the
calls in a state of this rollout's own and shows the results, until the policy answers without a
call. To the sampler an environment is data, checked at import; the rollout service opens it.
Kinds that begin with `x_` are plug-ins of the worker, whose configuration the sampler cannot know.
"""

from __future__ import annotations

import ast
from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from .base import Json, Request
from .dialogue import Message

MAX_CALL_CHARS = 8192
"""Longest gold call as text."""

UserTurns = Annotated[list[list[Message]], Field(max_length=64)]
"""Requests that follow, in order: each is shown when the policy has answered the one before."""

ToolName = Annotated[str, Field(min_length=1, max_length=256)]
ServerName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
"""A name in the worker's own table of tool servers; tasks never bring addresses or commands."""

BfclClass = Literal[
    "GorillaFileSystem",
    "MathAPI",
    "MessageAPI",
    "TwitterAPI",
    "TicketAPI",
    "TradingBot",
    "TravelAPI",
    "VehicleControlAPI",
]
"""Simulated services of BFCL's multi-turn categories."""


class Empty(Request):
    """A configuration without fields."""


class CalculatorEnvironment(Request):
    """A calculator for Python expressions; its one tool is `calculate(expression)`."""

    kind: Literal["calculator"] = "calculator"
    config: Empty = Empty()
    user_turns: UserTurns = Field(default_factory=list)


class BfclConfig(Request):
    """Which simulated services there are, and what they hold at the beginning."""

    classes: list[BfclClass] = Field(min_length=1, max_length=8)
    initial_config: dict[str, dict[str, Json]] = Field(default_factory=dict)
    """By class, as the `bfcl-eval` package writes it."""
    long_context: bool = False
    """Fill the services with much that does not matter."""
    withheld: dict[Annotated[str, Field(pattern=r"^[1-9][0-9]?$")], list[ToolName]] = Field(
        default_factory=dict
    )
    """Tools that are on offer only from that user turn on (0 is the task's own)."""


class BfclEnvironment(Request):
    """BFCL's multi-turn services (the `bfcl-eval` package)."""

    kind: Literal["bfcl_multi_turn"] = "bfcl_multi_turn"
    config: BfclConfig
    user_turns: UserTurns = Field(default_factory=list)


class ServerConfig(Request):
    """Which tool server answers."""

    server: ServerName


class HttpEnvironment(Request):
    """Tools behind a plain HTTP server: calls are POSTed as JSON."""

    kind: Literal["http"] = "http"
    config: ServerConfig
    user_turns: UserTurns = Field(default_factory=list)


class McpEnvironment(Request):
    """Tools of an MCP server; every rollout has a session of its own."""

    kind: Literal["mcp"] = "mcp"
    config: ServerConfig
    user_turns: UserTurns = Field(default_factory=list)


class PluginEnvironment(Request):
    """An environment that a package brings to the worker (entry points `etude.environments`)."""

    kind: str = Field(pattern=r"^x_[a-z0-9_]+$", max_length=64)
    config: dict[str, Json] = Field(default_factory=dict)
    user_turns: UserTurns = Field(default_factory=list)


BUILT_IN_KINDS = ("bfcl_multi_turn", "calculator", "http", "mcp")
"""Kinds whose configuration the contract knows."""


def _kind_of(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    if isinstance(kind, str) and kind.startswith("x_"):
        return "plugin"
    return kind if isinstance(kind, str) else None


Environment: TypeAlias = Annotated[
    Annotated[CalculatorEnvironment, Tag("calculator")]
    | Annotated[BfclEnvironment, Tag("bfcl_multi_turn")]
    | Annotated[HttpEnvironment, Tag("http")]
    | Annotated[McpEnvironment, Tag("mcp")]
    | Annotated[PluginEnvironment, Tag("plugin")],
    Discriminator(
        _kind_of,
        custom_error_type="unknown_environment",
        custom_error_message=(
            "kind must be one of "
            + ", ".join(repr(kind) for kind in BUILT_IN_KINDS)
            + ", or begin with 'x_' (a plug-in of the worker)"
        ),
    ),
]


def gold_call(text: str) -> tuple[str, list[object], dict[str, object]]:
    """Name, positional and named arguments of a call such as `cd(folder='a')`, read, never run.

    Raises:
        ValueError: not one call of a plain name with literal arguments.
    """
    if len(text) > MAX_CALL_CHARS:
        raise ValueError(f"a gold call is longer than {MAX_CALL_CHARS} characters")
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError("no call of a function by its name")
        named: dict[str, object] = {}
        for word in node.keywords:
            if word.arg is None:
                raise ValueError("arguments are unpacked")
            named[word.arg] = ast.literal_eval(word.value)
        return node.func.id, [ast.literal_eval(value) for value in node.args], named
    except (SyntaxError, RecursionError, MemoryError, TypeError, ValueError) as error:
        raise ValueError(f"{text[:80]!r} is not a call with plain values") from error
