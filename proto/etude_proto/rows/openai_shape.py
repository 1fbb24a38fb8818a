"""The OpenAI-like shape of a line: wrapped tools, and gold calls beside the messages.

`jsonl` chooses between this shape and the contract's own `TaskCreate`; `task_schema` documents
both. A line of either shape with the same content is the same task.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    WithJsonSchema,
    model_validator,
)

from ..v1 import (
    Aids,
    Call,
    CallsReference,
    Message,
    Request,
    ResponseReference,
    Split,
    Tool,
)
from ..v1.base import Name
from ..v1.tasks import NewSubtask
from .stream import RowRefused
from .strict_json import kind_of, parse_json


def _parsed_arguments(value: object) -> object:
    """Arguments given as text, as OpenAI writes them, in the form of an object."""
    if not isinstance(value, str):
        return value
    try:
        parsed = parse_json(value)
    except RowRefused as refused:
        raise ValueError(f"arguments: {refused.detail}") from refused
    if not isinstance(parsed, dict):
        raise ValueError(f"arguments: expected an object, found {kind_of(parsed)}")
    return parsed


Arguments = Annotated[
    dict[str, JsonValue],
    BeforeValidator(_parsed_arguments),
    WithJsonSchema({"type": ["object", "string"]}),
]
"""An object, or the JSON text of one."""


class Line(Request):
    """Base of the shapes below; the text under a field is its description in the schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Function(Tool):
    """A tool inside its OpenAI wrapping."""

    strict: bool | None = None

    def tool(self) -> Tool:
        """The tool without what only OpenAI's servers read."""
        return Tool(name=self.name, description=self.description, parameters=self.parameters)


class WrappedTool(Line):
    """A tool as OpenAI's chat API takes it."""

    type: Literal["function"] = "function"
    function: Function


class GoldCall(Line):
    """A gold call: a name and its arguments under either name; without any, it takes none."""

    name: str = Field(min_length=1)
    parameters: dict[str, JsonValue] | None = None
    """The arguments as an object."""
    arguments: Arguments | None = None
    """The arguments as an object, or as the JSON text of one."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> GoldCall:
        if self.parameters is not None and self.arguments is not None:
            raise ValueError("give `parameters` or `arguments`, not both")
        return self

    def call(self) -> Call:
        """The call as the contract has it."""
        return Call(name=self.name, parameters=self.parameters or self.arguments or {})


class WrappedCall(Line):
    """A gold call as OpenAI's chat API answers it."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: GoldCall


def _wrapping(value: object) -> str:
    is_wrapped = "function" in value if isinstance(value, dict) else hasattr(value, "function")
    return "wrapped" if is_wrapped else "plain"


EitherTool = Annotated[
    Annotated[WrappedTool, Tag("wrapped")] | Annotated[Tool, Tag("plain")],
    Discriminator(_wrapping),
]
EitherCall = Annotated[
    Annotated[WrappedCall, Tag("wrapped")] | Annotated[GoldCall, Tag("plain")],
    Discriminator(_wrapping),
]


class OpenAILine(Line):
    """A task in the OpenAI-like shape: messages, tools, and the right calls."""

    messages: list[Message] = Field(min_length=1)
    """The dialogue up to the point where the policy speaks; contents are text."""
    tools: list[EitherTool] = Field(default_factory=list)
    """Tools on offer, in the order they are shown."""
    calls: list[EitherCall] | None = None
    """Gold calls. Absent together with `response`: the task has no gold."""
    response: bool | None = None
    """Whether an answer in words is expected: after the calls, or instead of any."""
    subtasks: list[NewSubtask] = Field(default_factory=list, max_length=32)
    """Skills exercised; derived from the gold when empty."""
    source: Name = "default"
    """Where the task came from."""
    split: Split | None = None
    """Overrides the split that the import would assign."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """Free data, returned unread."""
    aids: Aids | None = None
    """What scaffolds may show to help with it."""

    def plain_tools(self) -> list[Tool]:
        """The tools without their wrapping."""
        return [
            tool.function.tool() if isinstance(tool, WrappedTool) else tool for tool in self.tools
        ]

    def reference(self) -> CallsReference | ResponseReference | None:
        """The gold; None when the line says nothing about it.

        Raises:
            RowRefused: it says that there is neither a call nor an answer.
        """
        calls = [
            (call.function if isinstance(call, WrappedCall) else call).call()
            for call in self.calls or []
        ]
        if calls:
            return CallsReference(calls=calls, response=bool(self.response))
        if self.response:
            return ResponseReference()
        if self.calls is None and self.response is None:
            return None
        raise RowRefused("/calls", "no gold call, and `response` is not true: nothing to score")
