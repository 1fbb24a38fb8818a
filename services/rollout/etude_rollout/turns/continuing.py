"""The tokens between two turns of the policy: what the chat template puts there, and no other.

What the policy said is never encoded again. The template renders the dialogue with a mark in place
of the assistant's turn; the text behind the mark is what follows any such turn, and it alone is
encoded. If the policy sampled the end of its turn, the template's own is left out. So the prompt of
the next turn is the tokens that the engine saw and made, and these. Used by `playing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from etude_proto.v1 import Message, Tool

from ..prompting import Prompter, PromptError

MARK = "etude-turn-5f1c9b"
"""Stands for what the policy said; letters, digits and hyphens survive every template."""
PROBE = "etude-probe-8d20e4"
"""Stands for a tool's answer when a template is tried."""


class Continuer:
    """Writes continuations for one prompter."""

    def __init__(self, prompter: Prompter) -> None:
        self._prompter = prompter
        self._takes_tool_role = prompter.tools_in_template and self._shows_tool_turns()
        self._ends = {prompter.tokenizer.eos_token_id, self._end_of_turn()}

    @property
    def prefill(self) -> str:
        """What every turn of the assistant begins with."""
        return self._prompter.prefill

    def after(
        self,
        dialogue: Sequence[Message],
        tools: Sequence[Tool],
        new: Sequence[Message],
        *,
        last_token: int,
    ) -> list[int]:
        """Token ids that follow a turn of the policy, up to where it speaks again.

        Args:
            dialogue: what the first prompt was made of.
            tools: on offer, as in the first prompt.
            new: tools' answers, or the user's next turn.
            last_token: the last one that the policy sampled. A special token ended the turn; after
                any other the template's end of the turn is written, as nobody's token.

        Raises:
            PromptError: the chat template refuses such a dialogue.
        """
        shown = new if self._takes_tool_role else [_as_user(one) for one in new]
        ids = self._prompter.encode(self._behind_mark(dialogue, tools, shown) + self.prefill)
        if self._prompter.decode([last_token]):
            return ids
        ends = {last_token, *self._ends}
        for at, token in enumerate(ids):
            if token in ends:
                return ids[at + 1 :]
            if self._prompter.decode([token]).strip():
                break
        return ids

    def _end_of_turn(self) -> int | None:
        """The special token that the template ends the assistant's turn with; None without one."""
        turns = [Message(role="user", content="hello"), Message(role="assistant", content=MARK)]
        try:
            text = self._prompter.text(turns, (), opens_turn=False).partition(MARK)[2]
        except PromptError:
            return None
        ids = self._prompter.encode(text)
        return next((token for token in ids if not self._prompter.decode([token])), None)

    def _shows_tool_turns(self) -> bool:
        """Whether the template has a place for a tool's answer."""
        asked = [Message(role="user", content="hello")]
        try:
            text = self._behind_mark(asked, (), [Message(role="tool", name="f", content=PROBE)])
        except PromptError:
            return False
        return PROBE in text

    def _behind_mark(
        self, dialogue: Sequence[Message], tools: Sequence[Tool], new: Sequence[Message]
    ) -> str:
        """
        Raises:
            PromptError: the template refuses, or does not show the assistant's turn once.
        """
        turns = [*dialogue, Message(role="assistant", content=MARK), *new]
        text = self._prompter.text(turns, tools)
        if text.count(MARK) != 1:
            raise PromptError("the chat template does not show the assistant's turn as it is")
        return text.partition(MARK)[2]


def _as_user(message: Message) -> Message:
    """A tool's answer as a user turn in ToolRL's `<obs>` tags, for templates without that role."""
    if message.role != "tool":
        return message
    return Message(role="user", content=f"<obs> {message.content} </obs>")
