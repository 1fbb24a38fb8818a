"""Prompts: where tools and the output format stand, and what the prefill and the shots add."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from etude_proto.v1 import Message, Tool
from etude_rollout.demonstrations import DEMONSTRATIONS
from etude_rollout.prompting import (
    OUTPUT_FORMAT,
    Prompt,
    Prompter,
    PromptError,
    PromptOptions,
    carries_toolrl_text,
    load_tokenizer,
)
from etude_rollout.rewards import RewardConfig, gold_from_task, score_completion
from etude_rollout.tool_texts import tools_text
from support.shared_data import SHARED_DATA

WEATHER = Tool(
    name="weather",
    description="Tell the weather.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
ASKED = [Message(role="user", content="Will it rain in Oslo?")]
DEFAULT = PromptOptions()
PLAIN_TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def prompter(policy_dir: Path, options: PromptOptions, *, shows_tools: bool = True) -> Prompter:
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    if not shows_tools:
        tokenizer.chat_template = PLAIN_TEMPLATE
    return Prompter(tokenizer, options)


def render(
    policy_dir: Path,
    options: PromptOptions = DEFAULT,
    *,
    shows_tools: bool = False,
    messages: list[Message] = ASKED,
) -> Prompt:
    return prompter(policy_dir, options, shows_tools=shows_tools).render(messages, [WEATHER])


def test_a_template_that_shows_tools_gets_them(policy_dir: Path) -> None:
    assert prompter(policy_dir, PromptOptions()).tools_in_template
    text = render(policy_dir, shows_tools=True).text
    assert text.startswith('<|im_start|>tools\nweather "city" "days"\n<|im_end|>')
    assert tools_text([WEATHER]) not in text
    assert OUTPUT_FORMAT in text


def test_any_other_finds_them_numbered_in_the_system_text(policy_dir: Path) -> None:
    text = render(policy_dir).text
    assert text == (
        f"[system] {tools_text([WEATHER])}\n\n{OUTPUT_FORMAT}\n"
        "[user] Will it rain in Oslo?\n[assistant] "
    )
    lines = tools_text([WEATHER]).splitlines()
    assert lines[1:3] == ["1. Name: weather", "Description: Tell the weather."]
    shown = json.loads(lines[3].removeprefix("Parameters: "))
    assert shown == WEATHER.parameters["properties"]
    assert lines[4] == 'Required: ["city"]'


def test_the_system_text_can_be_chosen(policy_dir: Path) -> None:
    text = render(policy_dir, PromptOptions(tools_in="system"), shows_tools=True).text
    assert tools_text([WEATHER]) in text
    assert "<|im_start|>tools" not in text


def test_tools_can_stand_beside_the_request(policy_dir: Path) -> None:
    text = render(policy_dir, PromptOptions(tools_in="user", explain_format=False)).text
    assert text == (
        "[user] Tools:\n- weather(city: string, days: integer?): Tell the weather.\n\n"
        "Request: Will it rain in Oslo?\n[assistant] "
    )


def test_a_template_without_tools_cannot_be_asked_for_them(policy_dir: Path) -> None:
    with pytest.raises(PromptError, match="does not show tools"):
        render(policy_dir, PromptOptions(tools_in="template"))


def test_own_system_text_comes_first(policy_dir: Path) -> None:
    messages = [Message(role="system", content="Be brief."), *ASKED]
    text = render(policy_dir, messages=messages).text
    assert text.startswith(f"[system] Be brief.\n\n{tools_text([WEATHER])}")
    assert text.count("[system]") == 1


def test_the_format_need_not_be_explained(policy_dir: Path) -> None:
    options = PromptOptions(explain_format=False)
    assert OUTPUT_FORMAT not in render(policy_dir, options).text
    text = render(policy_dir, options, shows_tools=True).text
    assert "system" not in text


def test_the_prefill_ends_the_prompt_and_begins_the_completion(policy_dir: Path) -> None:
    options = PromptOptions(prefill="<think>")
    prompt, bare = render(policy_dir, options), render(policy_dir)
    assert prompt.text == bare.text + "<think>"
    assert prompt.prefill == "<think>"
    assert len(prompt.token_ids) == len(bare.token_ids) + 1


@pytest.mark.parametrize("num_shots", [0, 1, 2, 3])
def test_shots_are_earlier_turns(policy_dir: Path, num_shots: int) -> None:
    text = render(policy_dir, PromptOptions(num_shots=num_shots)).text
    assert text.count("[assistant]") == num_shots + 1
    for number, demonstration in enumerate(DEMONSTRATIONS):
        assert (demonstration.answer in text) == (number < num_shots)


def test_there_are_only_so_many_shots(policy_dir: Path) -> None:
    with pytest.raises(PromptError, match="0 to 3"):
        render(policy_dir, PromptOptions(num_shots=4))


def test_demonstrations_are_what_the_rewards_want() -> None:
    config = RewardConfig()
    for demonstration in DEMONSTRATIONS:
        gold = gold_from_task({"kind": "toolrl", "text": demonstration.answer})
        assert score_completion(demonstration.answer, gold, config=config).success


def test_tool_answers_become_observations_for_templates_without_the_role(policy_dir: Path) -> None:
    turns = [*ASKED, Message(role="tool", name="weather", content="rain")]
    text = render(policy_dir, messages=turns).text
    assert "[user] <obs> rain </obs>" in text


def test_toolrl_rows_are_used_as_they_are(policy_dir: Path) -> None:
    lines = (SHARED_DATA / "rlla_train400.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[0])
    messages = [Message.model_validate(message) for message in row["prompt"]]
    assert carries_toolrl_text(messages)
    assert not carries_toolrl_text(ASKED)
    text = render(policy_dir, PromptOptions(num_shots=2), messages=messages).text
    assert text == "".join(f"[{m.role}] {m.content}\n" for m in messages) + "[assistant] "


def test_a_template_may_refuse(policy_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    tokenizer.chat_template = (
        "{% for m in messages if m.role == 'tool' %}{{ raise_exception('no tools here') }}"
        "{% endfor %}"
    )
    strict = Prompter(tokenizer, PromptOptions())
    strict.render(ASKED, [])
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(PromptError, match="never"):
        strict.render(ASKED, [])


def test_there_must_be_a_tokenizer_with_a_template(tmp_path: Path, policy_dir: Path) -> None:
    with pytest.raises(PromptError, match="no tokenizer"):
        load_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(PromptError, match="no chat template"):
        load_tokenizer(tmp_path)
