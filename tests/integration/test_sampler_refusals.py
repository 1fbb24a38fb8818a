"""What a run cannot be, said when it is created: the field and what is possible instead."""

from __future__ import annotations

from collections.abc import Mapping

from etude_proto.v1 import Aids, CalculatorEnvironment, EpisodeReference, Message, Run
from etude_proto.v1.runs import REWARD_SWITCHES, WHOLE_REWARD_SWITCHES
from etude_rollout.rewards.config import SWITCHES, RewardConfig
from support.sampler_app import Api, parse, problem
from support.workload import task

Spec = Mapping[str, object]


def _curriculum(**parts: object) -> Spec:
    return {"curriculum": parts}


def _part(name: str, **knobs: object) -> Spec:
    return {"name": name, "knobs": knobs}


REFUSED: list[tuple[Spec, str, str]] = [
    (_curriculum(preset="magic"), "/curriculum/preset", "unknown preset 'magic'; known: uniform,"),
    *(
        (_curriculum(**{kind: {"name": "magic"}}), f"/curriculum/{kind}/name", "known: ")
        for kind in ("weigher", "allocator", "gate", "budget", "pool", "hard", "scaffold")
    ),
    (
        _curriculum(weigher=_part("kimi", florr=1)),
        "/curriculum/weigher/knobs/florr",
        "unknown knob; known: floor",
    ),
    (
        _curriculum(weigher=_part("kimi", floor="1")),
        "/curriculum/weigher/knobs/floor",
        "valid number",
    ),
    (
        _curriculum(preset="learnability_fresh", gate=_part("learnability", factor=0.5)),
        "/curriculum/gate/knobs/factor",
        "greater than or equal to 1",
    ),
    # Lanes without tasks, and components that no task of the run is scored on.
    (_curriculum(subtasks=["juggling"]), "/curriculum/subtasks/0", "no task has the sub-task"),
    (
        _curriculum(allocator=_part("tdcl", tau={"juggling": 0.5})),
        "/curriculum/allocator/knobs/tau/juggling",
        "not a sub-task of this run: format, tool_name, param_value",
    ),
    (
        _curriculum(allocator=_part("fixed", shares={"juggling": 0.5})),
        "/curriculum/allocator/knobs/shares/juggling",
        "not a lane of this run",
    ),
    (
        _curriculum(prerequisites={"format": ["juggling"]}),
        "/curriculum/prerequisites/format/0",
        "is no sub-task of this run",
    ),
    (_curriculum(preset="ladder"), "/curriculum/lanes_by", "6 of 6 tasks have no number"),
    ({"sources": ["nowhere"]}, "/sources", "no train task"),
    (_curriculum(preset="ghpo"), "/curriculum/scaffold", "6 of 6 tasks have no aids.solution"),
    # What the reward cannot do.
    ({"reward": {"switches": ["NOPE"]}}, "/reward/switches/0", "known: CORRECTMAX1,"),
    (
        {"reward": {"switches": ["WITHLENGTH", "COARSEREWARD"]}, **_curriculum(preset="dscl")},
        "/reward/switches/1",
        "component weights of allocator 'tdcl' cannot act",
    ),
    # Parts that cannot stand beside each other.
    (
        _curriculum(preset="toolexpander", pool={"name": "plr"}),
        "/curriculum/pool",
        "draws from lane `uniform` alone",
    ),
    (
        _curriculum(preset="plr", hard={"name": "multi_round"}),
        "/curriculum/hard",
        "draws from lane `uniform` alone",
    ),
]
TAKEN: list[Spec] = [
    {"reward": {"switches": ["COARSEREWARD"]}, **_curriculum(preset="uniform")},
    {"reward": {"switches": ["COARSEREWARD"]}, **_curriculum(preset="dscl_rds_only")},
    {"reward": {"switches": list(SWITCHES)}, **_curriculum(preset="sec", lanes_by="subtasks")},
]


async def test_a_run_that_cannot_be_is_refused_with_the_field(valkey_api: Api) -> None:
    api = valkey_api
    dataset = await api.create_dataset("six", tasks=[task(number) for number in range(6)])
    for spec, pointer, words in REFUSED:
        answer = await api.post("/v1/runs", {"name": "no", "dataset_id": dataset, **spec})
        found = problem(answer, 422, "payload_invalid")
        assert [item.pointer for item in found.errors] == [pointer], spec
        assert words in found.detail, (spec, found.detail)
    assert (await api.get("/v1/runs")).json()["items"] == []
    for spec in TAKEN:
        answer = await api.post("/v1/runs", {"name": "yes", "dataset_id": dataset, **spec})
        parse(answer, Run, 201)


EPISODE = task(1).model_copy(
    update={
        "environment": CalculatorEnvironment(),
        "reference": EpisodeReference(answers=["7"]),
        "aids": Aids(solution=[Message(role="assistant", content=text) for text in ("a", "b")]),
    }
)
IN_TEXT = Aids(solution="<think> so </think>\n<response> 7 </response>")


OF_EPISODES: list[tuple[Spec, str, str]] = [
    (_curriculum(scaffold=_part("reflect")), "training", "scaffold 'reflect' cannot act"),
    (_curriculum(scaffold=_part("reflect")), "curriculum_only", ""),
    (_curriculum(scaffold=_part("prefix")), "training", "1 of 2 tasks have an environment, and"),
    (_curriculum(scaffold=_part("prefix", missing="bare")), "training", ""),
]


async def test_help_that_cannot_act_in_episodes_is_refused(valkey_api: Api) -> None:
    """Frameworks play as they like; text may open an episode's first turn."""
    api = valkey_api
    told = EPISODE.model_copy(update={"aids": IN_TEXT, "messages": task(2).messages})
    dataset = await api.create_dataset("two", tasks=[EPISODE, told])
    for number, (curriculum, mode, words) in enumerate(OF_EPISODES):
        spec = {"name": f"r{number}", "dataset_id": dataset, "mode": mode, **curriculum}
        answer = await api.post("/v1/runs", spec)
        if words:
            found = problem(answer, 422, "payload_invalid")
            assert [item.pointer for item in found.errors] == ["/curriculum/scaffold"]
            assert words in found.detail
        else:
            parse(answer, Run, 201)


async def test_tasks_without_gold_are_for_frameworks_that_score(valkey_api: Api) -> None:
    """Metadata may have a field of that name; a text may quote it."""
    api = valkey_api
    bare = task(1).model_copy(update={"reference": None})
    noted = task(2).model_copy(update={"metadata": {"reference": None, "a": {"reference": None}}})
    said = [one.model_copy(update={"content": '{"reference":null}'}) for one in task(3).messages]
    quoting = task(3).model_copy(update={"messages": said})
    mixed = await api.create_dataset("mixed", tasks=[task(0), bare, noted, quoting])
    body = {"name": "mixed", "dataset_id": mixed}
    found = problem(await api.post("/v1/runs", body), 422, "payload_invalid")
    assert [item.pointer for item in found.errors] == ["/dataset_id"]
    assert "1 of 4 tasks have no reference" in found.detail
    parse(await api.post("/v1/runs", {**body, "mode": "curriculum_only"}), Run, 201)
    whole = await api.create_dataset("whole", tasks=[noted, quoting])
    parse(await api.post("/v1/runs", {"name": "whole", "dataset_id": whole}), Run, 201)


def test_the_contract_names_the_switches_of_the_reward() -> None:
    assert REWARD_SWITCHES == SWITCHES
    whole = [name for name in SWITCHES if not RewardConfig(switches=(name,)).takes_weights]
    assert list(WHOLE_REWARD_SWITCHES) == whole
