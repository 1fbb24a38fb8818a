"""What a prompt is made of: turns and tools."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Json, Request


class Message(Request):
    """One turn of the dialogue that the policy continues."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    name: str | None = None
    """The tool's name, for role `tool`."""


class Tool(Request):
    """A tool the policy may call."""

    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    parameters: dict[str, Json] = Field(default_factory=dict)
    """JSON Schema of the arguments (an object schema)."""
