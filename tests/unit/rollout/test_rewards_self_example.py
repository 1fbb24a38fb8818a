"""Self-exemplifying thinking: what makes an example valid (algorithms.md 4.4, V2 to V6)."""

from __future__ import annotations

import pytest

from etude_rollout.rewards import SelfExampleRules, is_self_example, token_jaccard

RULES = SelfExampleRules(
    tools={"weather": frozenset({"city"}), "mute": frozenset()},
    request="get the weather in paris today",
)
ANALYSIS = "the request names a city so weather gets it"
CALL = '{"name": "weather", "parameters": {"city": "Rome"}}'


def thought(*examples: tuple[str, str]) -> str:
    """A completion whose thought holds these examples and analyses."""
    pairs = [f"<example>{e}</example>\n<analysis>{a}</analysis>" for e, a in examples]
    inside = "\n".join(["first,", *pairs, "so I call it"])
    return f"<think> {inside} </think>\n<tool_call>\n{CALL}\n</tool_call>"


def example(request: str = "how warm is it in Rome", call: str = CALL) -> str:
    return f"\nRequest: {request}\n{call}\n"


def test_examples_of_the_specification() -> None:
    """V5: 4/6 is valid, 5/6 is not."""
    near = token_jaccard("book a flight to rome", "book a flight to oslo")
    assert near == pytest.approx(0.6667, abs=5e-5)
    assert near < RULES.max_similarity
    far = token_jaccard("get the weather in paris today", "get the weather in paris")
    assert far == pytest.approx(0.8333, abs=5e-5)
    assert far >= RULES.max_similarity
    assert token_jaccard("", "") == 0.0


def test_one_or_two_examples_each_with_an_analysis() -> None:
    good = (example(), ANALYSIS)
    assert is_self_example(thought(good), RULES)
    assert is_self_example(thought(good, good), RULES)
    assert not is_self_example(thought(), RULES)
    assert not is_self_example(thought(good, good, good), RULES)
    lonely = thought(good).replace("so I call it", f"<example>{example()}</example>")
    assert not is_self_example(lonely, RULES)
    swapped = f"<think> <analysis>{ANALYSIS}</analysis><example>{example()}</example> </think>"
    assert not is_self_example(swapped, RULES)


def test_an_analysis_has_eight_words() -> None:
    assert not is_self_example(thought((example(), "seven words are not enough for this")), RULES)
    assert is_self_example(thought((example(), "eight words are quite enough for this one")), RULES)


@pytest.mark.parametrize(
    "call",
    [
        '{"name": "weather", "parameters": {"city": "Rome"}',
        '{"name": "taxi", "parameters": {}}',
        '{"name": "weather", "parameters": {"town": "Rome"}}',
        '{"name": "weather"}',
        '{"name": "weather", "name": "mute", "parameters": {}}',
        "",
        f"{CALL}\n{CALL}",
        f"{CALL}\nand so on",
    ],
)
def test_one_call_that_parses_and_fits_a_listed_tool(call: str) -> None:
    assert not is_self_example(thought((example(call=call), ANALYSIS)), RULES)


def test_parameters_may_be_left_out_but_not_invented() -> None:
    bare = '{"name": "weather", "parameters": {}}'
    assert is_self_example(thought((example(call=bare), ANALYSIS)), RULES)
    invented = '{"name": "mute", "parameters": {"now": true}}'
    assert not is_self_example(thought((example(call=invented), ANALYSIS)), RULES)


def test_a_request_of_its_own_words() -> None:
    copied = example("get the weather in paris")
    assert not is_self_example(thought((copied, ANALYSIS)), RULES)
    assert not is_self_example(thought((f"\n{CALL}\n", ANALYSIS)), RULES), "no request"
    assert not is_self_example(thought((f"\nRequest:\n{CALL}\n", ANALYSIS)), RULES), "an empty one"
    plain = f"\nhow warm is it in Rome\n{CALL}\n"
    assert is_self_example(thought((plain, ANALYSIS)), RULES), "the label is not needed"


@pytest.mark.parametrize("tag", ["<tool_call>", "</tool_call>", "<response>", "</response>"])
def test_no_call_or_response_tag_inside_the_thought(tag: str) -> None:
    inside = thought((example(), f"{ANALYSIS} {tag}"))
    assert not is_self_example(inside, RULES)


def test_examples_outside_the_thought_do_not_count() -> None:
    outside = f"<think> hm </think>\n<example>{example()}</example><analysis>{ANALYSIS}</analysis>"
    assert not is_self_example(outside, RULES)
