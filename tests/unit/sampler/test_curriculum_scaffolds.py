"""Scaffolds: the worked examples of section 6, what may be shown, and refusals."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude_proto.v1 import Aids, CurriculumConfig, Hints, Merge, Message, Part, Rung, RunLimits
from etude_sampler.curriculum import ConfigFault, check_fit, helps_episodes, resolve, takes_bare
from etude_sampler.curriculum.scaffolding import Served
from etude_sampler.curriculum.scaffolds.cutting import cut_of_text, cut_of_turns, turns_shown
from etude_sampler.curriculum.scaffolds.hints import first_level, hint_levels
from support.scaffolding import scaffold, situation

SHARES = (0.25, 0.5, 0.75)
FULL = Hints(
    knowledge=["k1", "k2", "k3", "k4"],
    planning=["p1", "p2", "p3", "p4"],
    solution=["s1", "s2", "s3", "s4"],
)


def rungs(served: Served) -> list[Rung]:
    assert served.ladder is not None
    return served.ladder.rungs


# hints


def test_levels_are_tried_in_order_and_show_their_tier_alone() -> None:
    """Order K1..K4, P1..P4, S1..S4; level (c, l) shows items 1..l of tier c only."""
    levels = hint_levels(FULL)
    assert [level for level, _ in levels] == list(range(1, 13))
    assert [items[-1] for _, items in levels] == [f"{c}{i}" for c in "kps" for i in (1, 2, 3, 4)]
    assert levels[5] == (6, ["p1", "p2"])


def test_a_short_tier_keeps_the_numbers_of_the_others() -> None:
    levels = hint_levels(Hints(knowledge=["k1"], solution=["s1", "s2"]))
    assert levels == [(1, ["k1"]), (9, ["s1"]), (10, ["s1", "s2"])]


def test_a_climb_begins_two_levels_below_the_last_success() -> None:
    assert [first_level(last, 2) for last in (None, 1, 2, 3, 6, 12)] == [1, 1, 1, 1, 4, 10]


def test_hints_make_a_ladder() -> None:
    served = scaffold("hints").serve(situation(Aids(hints=FULL), last_success=6))
    assert served.ladder is not None
    assert (served.ladder.kind, served.ladder.merge) == ("hints", Merge.REPLACE_ONE)
    assert (served.ladder.num_rollouts, served.ladder.at_once) == (1, False)
    assert [rung.level for rung in rungs(served)] == list(range(4, 13))
    assert rungs(served)[2].text == "Hints for this request:\n1. p1\n2. p2"
    assert (served.scaffold.kind, served.scaffold.level) == ("none", 0)


def test_hints_wait_for_their_version() -> None:
    """15 % of 105 steps are 15.75: from version 16 on."""
    waiting = scaffold("hints")
    assert waiting.serve(situation(Aids(hints=FULL), version=15)).ladder is None
    assert waiting.serve(situation(Aids(hints=FULL), version=16)).ladder is not None


def test_a_task_without_hints_is_served_bare() -> None:
    assert scaffold("hints").serve(situation(Aids())) == Served()
    only_low = Aids(hints=Hints(knowledge=["k1"]))
    assert scaffold("hints").serve(situation(only_low, last_success=12)).ladder is None


# prefix


def test_text_is_cut_at_rounded_shares() -> None:
    """101 characters -> 25, 50, 76."""
    assert [cut_of_text("x" * 101, share) for share in SHARES] == [25, 50, 76]


@pytest.mark.parametrize(
    ("num_turns", "shown"), [(5, [2, 3, 4]), (4, [1, 2, 3]), (3, [1, 2, 2]), (1, [0, 0, 0])]
)
def test_traces_are_cut_at_whole_turns(num_turns: int, shown: list[int]) -> None:
    assert [turns_shown(num_turns, share) for share in SHARES] == shown


def test_a_share_that_is_whole_is_not_rounded_up() -> None:
    assert turns_shown(10, 0.7) == 7


def test_a_turn_keeps_what_the_tools_said() -> None:
    turns = [
        Message(role="assistant", content="call a"),
        Message(role="tool", content="a says"),
        Message(role="assistant", content="call b"),
        Message(role="tool", content="b says"),
        Message(role="assistant", content="answer"),
    ]
    assert cut_of_turns(turns, 0.25) == turns[:2]
    assert cut_of_turns(turns, 0.5) == turns[:4]
    assert cut_of_turns(turns[4:], 0.5) == []
    assert cut_of_turns(turns[1:2], 0.5) == []


CALLED = '<think> I use {"a": [1, 2]} here </think>\n<tool_call>\n{"name": "f"}\n</tool_call>'


@given(share=st.floats(0.01, 0.99))
def test_no_cut_falls_inside_json_or_a_tag_or_behind_a_call(share: float) -> None:
    shown = CALLED[: cut_of_text(CALLED, share)]
    assert "<tool_call>" not in shown
    assert shown.count("{") == shown.count("}")
    assert shown.count("<") == shown.count(">")
    assert len(shown) <= round(share * len(CALLED))


def test_a_brace_that_begins_no_json_is_text() -> None:
    assert cut_of_text("a {b " * 20, 0.5) == 50


def test_prefixes_make_a_ladder() -> None:
    served = scaffold("prefix").serve(situation(Aids(solution="x" * 101)))
    assert served.ladder is not None
    assert (served.ladder.merge, served.ladder.num_rollouts) == (Merge.REPLACE_ALL, 8)
    assert [(rung.level, len(rung.text)) for rung in rungs(served)] == [(1, 25), (2, 50), (3, 76)]


def test_a_trace_of_one_turn_is_never_shown() -> None:
    single = Aids(solution=[Message(role="assistant", content="the answer")])
    assert scaffold("prefix").serve(situation(single)).ladder is None
    assert scaffold("prefix").serve(situation(Aids(), version=100)).ladder is None
    assert scaffold("prefix").serve(situation(Aids(solution="abc"), version=19)).ladder is None
    two = Aids(solution=[Message(role="assistant", content=c) for c in "ab"])
    assert [rung.turns[-1].content for rung in rungs(scaffold("prefix").serve(situation(two)))] == [
        *"aaa"
    ]


@pytest.mark.parametrize(
    ("shares", "place"), [([0.5, 0.5], 1), ([0.5, 0.25], 1), ([0.0], 0), ([1.0], 0)]
)
def test_shares_must_rise_between_0_and_1(shares: list[float], place: int) -> None:
    with pytest.raises(ConfigFault) as refused:
        scaffold("prefix", shares=shares)
    assert refused.value.pointer == f"/curriculum/scaffold/knobs/shares/{place}"


# reflect, self_example


def test_reflection_has_a_rung_for_every_further_attempt() -> None:
    served = scaffold("reflect", attempts=3, ask="why?", again="again!").serve(situation(Aids()))
    assert served.ladder is not None
    assert served.ladder.merge is Merge.APPEND_TURN
    assert [(rung.level, rung.text, rung.again) for rung in rungs(served)] == [
        (1, "why?", "again!"),
        (2, "why?", "again!"),
    ]


def test_self_examples_leave_the_group_bare() -> None:
    served = scaffold("self_example").serve(situation(Aids()))
    assert served.self_example is not None
    assert (served.self_example.bonus, served.self_example.min_words) == (0.01, 8)
    assert served.self_example.max_similarity == 0.8
    assert (served.scaffold.level, served.ladder) == (0, None)


# every scaffold


@pytest.mark.parametrize("name", ["hints", "prefix", "reflect", "self_example"])
def test_only_noise_asks_for_chance(name: str) -> None:
    found = scaffold(name)
    assert (found.num_numbers(Aids()), found.num_strangers(Aids())) == (0, 0)
    assert found.needs_history is (name == "hints")
    assert found.kind == name


def test_what_tasks_must_bring() -> None:
    wanted = {
        "hints": "hints",
        "prefix": "solution",
        "noise_docs": "documents",
        "reflect": None,
        "self_example": None,
    }
    assert {name: scaffold(name).aid for name in wanted} == wanted


def test_a_run_may_serve_tasks_without_aids_bare() -> None:
    def bare(**scaffolding: object) -> bool:
        part = Part.model_validate(scaffolding) if scaffolding else None
        config = CurriculumConfig(preset="uniform", scaffold=part)
        return takes_bare(resolve(config, dataset_subtasks=["format"]))

    assert bare()
    assert bare(name="reflect")
    assert not bare(name="hints")
    assert bare(name="hints", knobs={"missing": "bare"})


def test_a_scaffold_says_whether_it_helps_episodes() -> None:
    def helps(name: str | None) -> bool:
        part = None if name is None else Part(name=name)
        config = CurriculumConfig(preset="uniform", scaffold=part)
        return helps_episodes(resolve(config, dataset_subtasks=["format"]))

    assert helps(None)
    assert helps("hints")
    assert not helps("reflect")


def test_presets_name_their_scaffold() -> None:
    for preset, name in (("scaf_grpo", "hints"), ("ghpo", "prefix")):
        resolved = resolve(CurriculumConfig(preset=preset), dataset_subtasks=["format"])
        assert resolved.scaffold is not None
        assert resolved.scaffold.name == name
        assert json.loads(resolved.model_dump_json())["scaffold"]["knobs"]["missing"] == "refuse"


def test_an_unknown_scaffold_is_refused_by_name() -> None:
    with pytest.raises(ConfigFault, match="unknown scaffold 'hint'; known: hints") as refused:
        scaffold("hint")
    assert refused.value.pointer == "/curriculum/scaffold/name"


@pytest.mark.parametrize("name", ["hints", "prefix", "noise_docs", "self_example"])
def test_a_group_that_is_trained_on_is_as_large_as_any(name: str) -> None:
    assert scaffold(name).largest(8) == 8


@pytest.mark.parametrize(
    ("attempts", "group_size", "limits", "pointer"),
    [
        (2, 512, {"max_group_bytes": 8 << 20}, None),
        (2, 513, {"max_group_bytes": 8 << 20}, "/group_size"),
        (8, 16, {"max_group_bytes": 1 << 19}, None),
        (8, 17, {"max_group_bytes": 1 << 19}, "/limits/max_group_bytes"),
    ],
)
def test_planners_and_reflectors_must_fit_one_report(
    attempts: int, group_size: int, limits: dict[str, int], pointer: str | None
) -> None:
    """A reflect group of G is trained on with up to G rollouts for every attempt."""
    part = Part.model_validate({"name": "reflect", "knobs": {"attempts": attempts}})
    config = CurriculumConfig(preset="uniform", scaffold=part)
    resolved = resolve(config, dataset_subtasks=["format"])
    given = RunLimits.model_validate(limits)

    def check(*, keeps_tokens: bool = True) -> None:
        check_fit(resolved, group_size=group_size, limits=given, keeps_tokens=keeps_tokens)

    if pointer is None:
        check()
        return
    with pytest.raises(ConfigFault) as refused:
        check()
    assert refused.value.pointer == pointer
    if pointer == "/limits/max_group_bytes":
        check(keeps_tokens=False)
