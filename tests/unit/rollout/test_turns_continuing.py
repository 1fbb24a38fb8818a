"""What stands between two turns of the policy: the template's own text, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude_proto.v1 import Message, Tool
from etude_rollout.prompting import ChatTokenizer, Prompter, PromptOptions, load_tokenizer
from etude_rollout.turns.continuing import Continuer

TOOL = Tool(name="f", parameters={"type": "object", "properties": {"x": {}}})
ASKED = [Message(role="system", content="be brief"), Message(role="user", content="how many?")]
END = "<|im_end|>"
_TOOLS = "{% if tools %}{% for t in tools %}[{{ t.function.name }}]{% endfor %}{% endif %}"
PLAIN = (
    _TOOLS + "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPACED = (
    _TOOLS
    + "{% for m in messages %}  <|im_start|> {{ m.role }} :\t{{ m.content }} <|im_end|>\n\n \n"
    "{% endfor %}{% if add_generation_prompt %}  <|im_start|> assistant :\t{% endif %}"
)
MERGED = (  # answers of one turn share a user's turn, as Qwen's template has it
    _TOOLS + "{% for m in messages %}{% if m.role == 'tool' %}"
    "{% if loop.previtem.role != 'tool' %}<|im_start|>user{% endif %}"
    "\n<tool_response>\n{{ m.content }}\n</tool_response>"
    "{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OTHER_END = (  # the template ends turns with another token than the policy does
    _TOOLS + "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|endoftext|>"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)
ENDLESS = (
    _TOOLS + "{% for m in messages %}{{ m.role }}: {{ m.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
EXACT = {"plain": PLAIN, "spaced": SPACED, "merged": MERGED, "endless": ENDLESS}
"""Templates that show what the policy said as it is."""


@pytest.fixture(scope="module")
def tokenizer(policy_dir: Path) -> ChatTokenizer:
    return load_tokenizer(policy_dir)


def continuer(tokenizer: ChatTokenizer, template: str, *, prefill: str = "") -> Continuer:
    tokenizer.chat_template = template
    options = PromptOptions(explain_format=False, prefill=prefill)
    return Continuer(Prompter(tokenizer, options))


def text_of(tokenizer: ChatTokenizer, ids: Sequence[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False)


@settings(max_examples=40, deadline=None)
@given(
    said=st.text(alphabet='ab {}"\n\t<>é', min_size=1, max_size=30).filter(
        lambda t: t == t.strip()
    ),
    answers=st.lists(st.text(alphabet='xyz01 \n{"', max_size=20), min_size=1, max_size=3),
    name=st.sampled_from(sorted(EXACT)),
)
def test_the_dialogue_reads_as_the_template_writes_it(
    tokenizer: ChatTokenizer, said: str, answers: list[str], name: str
) -> None:
    """Prompt, what was said and the continuation are what the template renders, by the letter."""
    made = continuer(tokenizer, EXACT[name])
    prompter = Prompter(tokenizer, PromptOptions(explain_format=False))
    new = [Message(role="tool", name="f", content=text) for text in answers]
    eos = tokenizer.eos_token_id
    assert eos is not None
    ends = [] if name == "endless" else [eos]
    last = eos if ends else tokenizer.encode(said, add_special_tokens=False, verbose=False)[-1]
    given_ids = made.after(ASKED, [TOOL], new, last_token=last)
    seen = [
        *prompter.render(ASKED, [TOOL]).token_ids,
        *tokenizer.encode(said, add_special_tokens=False, verbose=False),
        *ends,
        *given_ids,
    ]
    whole = [*ASKED, Message(role="assistant", content=said), *new]
    want = prompter.text(whole, [TOOL])
    got = text_of(tokenizer, seen)
    if name == "spaced":  # the policy ends its turn at once, the template after a space
        want = want.replace(f"{said} {END}", f"{said}{END}", 1)
    assert got == want


@pytest.mark.parametrize("template", [PLAIN, SPACED, MERGED, OTHER_END])
def test_the_end_of_a_turn_stands_once(tokenizer: ChatTokenizer, template: str) -> None:
    made = continuer(tokenizer, template)
    eos = tokenizer.eos_token_id
    assert eos is not None
    text = text_of(tokenizer, made.after(ASKED, [TOOL], [answer("7")], last_token=eos))
    assert text.count("7") == 1
    assert not text.lstrip().startswith((END, "<|endoftext|>"))


def answer(text: str) -> Message:
    return Message(role="tool", name="f", content=text)


def test_after_a_turn_that_ended_otherwise_the_template_ends_it(tokenizer: ChatTokenizer) -> None:
    """A stop string leaves the turn open: its end is written, as nobody's token."""
    made = continuer(tokenizer, PLAIN)
    last = tokenizer.encode("x", add_special_tokens=False, verbose=False)[-1]
    ids = made.after(ASKED, [TOOL], [answer("7")], last_token=last)
    assert text_of(tokenizer, ids).startswith(END)


def test_a_template_without_tool_turns_gets_them_from_the_user(tokenizer: ChatTokenizer) -> None:
    strict = PLAIN.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no') }}{% endif %}",
        1,
    )
    silent = PLAIN.replace("{{ m.content }}", "{{ m.content if m.role != 'tool' }}")
    for template in (strict, silent):
        made = continuer(tokenizer, template)
        ids = made.after(ASKED, [TOOL], [answer("7")], last_token=0)
        assert "user\n<obs> 7 </obs>" in text_of(tokenizer, ids)


def test_answers_that_the_template_escapes_stay_tool_turns(tokenizer: ChatTokenizer) -> None:
    escaped = PLAIN.replace("{{ m.content }}", "{{ m.content | tojson }}")
    made = continuer(tokenizer, escaped)
    ids = made.after(ASKED, [TOOL], [answer('{"a": 1}')], last_token=0)
    assert "<|im_start|>tool" in text_of(tokenizer, ids)


def test_every_turn_begins_with_the_prefill(tokenizer: ChatTokenizer) -> None:
    made = continuer(tokenizer, PLAIN, prefill="<think>")
    ids = made.after(ASKED, [TOOL], [answer("7")], last_token=0)
    assert text_of(tokenizer, ids).endswith("assistant\n<think>")


def test_thoughts_that_a_template_would_drop_stay_as_they_were_said(
    tokenizer: ChatTokenizer,
) -> None:
    """Only what follows the turn is rendered: what a template makes of older turns is no matter."""
    drops = PLAIN.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    kept = continuer(tokenizer, PLAIN).after(ASKED, [TOOL], [answer("7")], last_token=0)
    assert continuer(tokenizer, drops).after(ASKED, [TOOL], [answer("7")], last_token=0) == kept
