"""Prompts: a task's messages and tools as the token ids that the policy continues.

Three ways to show tools. A model whose chat template knows tools gets them through the template;
any other finds them in the system text, numbered as ToolRL shows them (2504.13958; algorithms.md
2.1; the wording is ours). On request they stand in the user's turn instead, one line each and
beside the question, in the demonstrations too: short, and near enough for very small models (our
choice; on BFCL simple_python with one demonstration SmolLM2-135M named the right tool in 32 % of
its rollouts that way, in 10 % by the second). The output format is explained in the system text,
unless that is switched off or the task brings ToolRL's own system text, which is used as it is.
Demonstrations (`demonstrations.py`) and an assistant prefill are options. Used by `episode.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from etude_proto.v1 import Message, Tool

from .demonstrations import DEMONSTRATIONS, Demonstration
from .tool_texts import signatures_text, tools_text

ToolsIn = Literal["auto", "template", "system", "user"]

OUTPUT_FORMAT = """\
Answer in exactly this form, starting with the thought:
<think> why you do what you do </think>
then, to call tools, one JSON object a line for each call:
<tool_call>
{"name": "tool name", "parameters": {"parameter name": "value"}}
</tool_call>
and, to say something to the user (or if no tool fits the request):
<response> your words </response>"""
"""The output format that the rewards read, in our words."""

_TOOLRL_MARKS = ("**Available Tools**", "**Output Format**")
"""Headings of ToolRL's system text; a message with both brings tools and format itself."""


class PromptError(ValueError):
    """A task that cannot be shown to this model; the message says why."""


class ChatTokenizer(Protocol):
    """What is used of a `transformers` tokenizer."""

    chat_template: str | None
    eos_token_id: int | None

    def __len__(self) -> int:
        """Tokens that it knows."""

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        tools: list[dict[str, object]] | None,
        add_generation_prompt: bool,
        tokenize: Literal[False],
    ) -> str:
        """Render messages as text."""

    def encode(self, text: str, *, add_special_tokens: bool, verbose: bool) -> list[int]:
        """Token ids of a text; `verbose` warns of long ones."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Text of token ids."""


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How prompts are made; one choice for a whole run."""

    tools_in: ToolsIn = "auto"
    explain_format: bool = True
    num_shots: int = 0
    """Demonstrations shown before the task, at most `len(DEMONSTRATIONS)`."""
    prefill: str = ""
    """Text that the assistant's turn begins with; part of the prompt's tokens and of the text that
    is scored."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A task as the policy sees it."""

    token_ids: tuple[int, ...]
    text: str
    prefill: str
    """What the completion's text must be prefixed with before it is scored."""


def load_tokenizer(model_dir: Path) -> ChatTokenizer:
    """The tokenizer of a model directory.

    Raises:
        PromptError: there is no such directory, no tokenizer, or no chat template.
    """
    from transformers import AutoTokenizer

    if not model_dir.is_dir():  # else a model of that name would be looked for elsewhere
        raise PromptError(f"no model in {model_dir}: there is no such directory")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
    except (OSError, ValueError) as error:
        raise PromptError(f"no tokenizer in {model_dir}: {error}") from error
    if not tokenizer.chat_template:
        raise PromptError(f"the tokenizer in {model_dir} has no chat template")
    return cast(ChatTokenizer, tokenizer)


class Prompter:
    """Renders tasks for one tokenizer."""

    def __init__(self, tokenizer: ChatTokenizer, options: PromptOptions) -> None:
        """
        Raises:
            PromptError: more demonstrations than there are, or tools asked of a template that
                does not show them.
        """
        if not 0 <= options.num_shots <= len(DEMONSTRATIONS):
            raise PromptError(f"num_shots must be 0 to {len(DEMONSTRATIONS)}")
        self._tokenizer = tokenizer
        self._options = options
        shows_tools = _template_shows_tools(tokenizer)
        if options.tools_in == "template" and not shows_tools:
            raise PromptError("the chat template does not show tools: use tools_in 'system'")
        self.tools_in_template = shows_tools and options.tools_in in ("auto", "template")

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        appended: str = "",
        prefix: str = "",
    ) -> Prompt:
        """A prompt that ends where the policy speaks.

        Args:
            messages: the dialogue.
            tools: on offer.
            appended: stands at the end of the system text.
            prefix: what the assistant's turn begins with, after or instead of the usual prefill.

        Raises:
            PromptError: the chat template refuses the messages.
        """
        text = self.text(messages, tools, appended=appended)
        prefill = prefix if prefix.startswith(self.prefill) else self.prefill + prefix
        text += prefill
        return Prompt(tuple(self.encode(text)), text, prefill)

    @property
    def prefill(self) -> str:
        """What every turn of the assistant begins with."""
        return self._options.prefill

    @property
    def tokenizer(self) -> ChatTokenizer:
        """What renders and encodes."""
        return self._tokenizer

    @property
    def explains_format(self) -> bool:
        """Whether prompts explain ToolRL's output format."""
        return self._options.explain_format

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, without special tokens."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered text."""
        return self._tokenizer.encode(text, add_special_tokens=False, verbose=False)

    def text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        *,
        appended: str = "",
        opens_turn: bool = True,
    ) -> str:
        """The rendered dialogue, up to where the assistant's next turn begins, if it is to begin.

        Raises:
            PromptError: the chat template refuses the messages.
        """
        from jinja2 import TemplateError

        if carries_toolrl_text(messages):
            conversation, shown = [_plain(message) for message in messages], None
            if appended:
                conversation[0]["content"] += f"\n\n{appended}"
        else:
            conversation = self._conversation(messages, tools, appended)
            use_template = self.tools_in_template and tools
            shown = [_function(tool) for tool in tools] if use_template else None
        try:
            return self._tokenizer.apply_chat_template(
                conversation, tools=shown, add_generation_prompt=opens_turn, tokenize=False
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise PromptError(f"the chat template refuses the task: {error}") from error

    def _conversation(
        self, messages: Sequence[Message], tools: Sequence[Tool], appended: str
    ) -> list[dict[str, str]]:
        parts: list[str] = []
        rest = list(messages)
        if rest and rest[0].role == "system":
            parts.append(rest.pop(0).content)
        in_user = self._options.tools_in == "user"
        if tools and not self.tools_in_template and not in_user:
            parts.append(tools_text(tools))
        if self._options.explain_format:
            parts.append(OUTPUT_FORMAT)
        if appended:
            parts.append(appended)
        system = [{"role": "system", "content": "\n\n".join(parts)}] if parts else []
        shots = [
            turn
            for demonstration in DEMONSTRATIONS[: self._options.num_shots]
            for turn in (
                {"role": "user", "content": _asked(demonstration, in_user=in_user)},
                {"role": "assistant", "content": demonstration.answer},
            )
        ]
        as_turn = _plain if self.tools_in_template else _without_tool_role
        turns = [as_turn(message) for message in rest]
        if tools and in_user:
            turn = turns[_last_request(rest)]
            turn["content"] = _beside(signatures_text(tools), turn["content"])
        return system + shots + turns


def _asked(demonstration: Demonstration, *, in_user: bool) -> str:
    """A demonstration's request with its tool: as the task shows its own, or in half a sentence."""
    tool, request = demonstration.tool, demonstration.request
    if in_user:
        return _beside(signatures_text([tool]), request[:1].upper() + request[1:])
    properties = tool.parameters["properties"]
    names = ", ".join(properties) if isinstance(properties, dict) else ""
    return f"With the tool {tool.name}({names}): {request}"


def _beside(tools: str, request: str) -> str:
    return f"{tools}\n\nRequest: {request}"


def _last_request(messages: Sequence[Message]) -> int:
    """
    Raises:
        PromptError: the user says nothing.
    """
    for index in reversed(range(len(messages))):
        if messages[index].role == "user":
            return index
    raise PromptError("there is no user turn to show the tools in")


def carries_toolrl_text(messages: Sequence[Message]) -> bool:
    """Whether the system text already names the tools and the output format, as ToolRL's does."""
    first = messages[0] if messages else None
    return (
        first is not None
        and first.role == "system"
        and all(mark in first.content for mark in _TOOLRL_MARKS)
    )


def _plain(message: Message) -> dict[str, str]:
    plain = {"role": message.role, "content": message.content}
    return plain if message.name is None else {**plain, "name": message.name}


def _without_tool_role(message: Message) -> dict[str, str]:
    """A tool's answer as a user turn in ToolRL's `<obs>` tags, for templates without that role."""
    if message.role != "tool":
        return {"role": message.role, "content": message.content}
    return {"role": "user", "content": f"<obs> {message.content} </obs>"}


def _function(tool: Tool) -> dict[str, object]:
    return {"type": "function", "function": tool.model_dump(mode="json")}


def _template_shows_tools(tokenizer: ChatTokenizer) -> bool:
    """Whether a tool's name comes out of the template when it is put in."""
    probe = Tool(name="probe_of_the_template", parameters={"type": "object", "properties": {}})
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hello"}],
        tools=[_function(probe)],
        add_generation_prompt=True,
        tokenize=False,
    )
    return probe.name in text
