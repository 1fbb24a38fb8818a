"""Where two runs went apart, from what the API shows of them."""

from __future__ import annotations

import json

import pytest

from etude_proto.v1 import Draw, DrawnTask, ForkedFrom, Rebuild, Run, TaskSummary
from etude_sampler.runs_diff import (
    Common,
    Difference,
    common_moment,
    compare_draws,
    compare_tasks,
    config_differences,
)
from support.contract import example

BASE = Run.model_validate_json(example("Run")).model_copy(
    update={"id": "run_base", "policy_version": 9, "forked_from": None}
)


def fork(name: str, source: Run, version: int) -> Run:
    """A fork of a run at a version."""
    origin = ForkedFrom(run_id=source.id, checkpoint_id=f"ckpt_{version}", policy_version=version)
    return source.model_copy(update={"id": f"run_{name}", "forked_from": origin})


LEFT, RIGHT = fork("left", BASE, 5), fork("right", BASE, 3)
DEEP = fork("deep", LEFT, 7)
RUNS = {run.id: run for run in (BASE, LEFT, RIGHT, DEEP)}


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (LEFT, RIGHT, Common("run_base", 3, "ckpt_3")),
        (RIGHT, LEFT, Common("run_base", 3, "ckpt_3")),
        (BASE, LEFT, Common("run_base", 5, "ckpt_5")),
        (DEEP, RIGHT, Common("run_base", 3, "ckpt_3")),
        (DEEP, LEFT, Common("run_left", 7, "ckpt_7")),
        (BASE, BASE, Common("run_base", 9, None)),
        (BASE, BASE.model_copy(update={"id": "run_stranger"}), None),
    ],
)
def test_the_common_moment_is_where_the_first_of_them_left(
    first: Run, second: Run, wanted: Common | None
) -> None:
    assert common_moment(first, second, get=RUNS.get) == wanted


def test_a_deleted_ancestor_ends_the_lineage() -> None:
    other = fork("other", LEFT, 6)
    without_left = {"run_base": BASE}.get
    assert common_moment(DEEP, other, get=without_left) == Common("run_left", 6, "ckpt_6")
    assert common_moment(DEEP, RIGHT, get=without_left) is None, "what LEFT came from is forgotten"


def draw(number: int, *ordinals: int, epoch: int = 1, weight: float = 1.0) -> Draw:
    """A draw of lane `uniform`."""
    tasks = [
        DrawnTask(
            ordinal=o, lane="uniform", entry=(epoch << 20) + number, weight=weight,
            slot_probability=0.1,
        )
        for o in ordinals
    ]  # fmt: skip
    return Draw(epoch=epoch, number=number, policy_version=number, num_waiting=9, tasks=tasks)


def test_draws_are_compared_by_choice_and_weight() -> None:
    ours = [draw(1, 4, 2), draw(2, 7), draw(4, 1)]
    rebuilt = [draw(1, 4, 2, epoch=3), draw(5, 7, epoch=3)]
    assert compare_draws(ours, rebuilt) == (2, None), "one of them only has fewer"
    for other in (draw(5, 8), draw(5, 7, weight=2.0), draw(5, 7, 8)):
        same, apart = compare_draws(ours, [rebuilt[0], other, draw(6, 1)])
        assert same == 1
        assert apart is not None
        assert (apart.number, apart.policy_version) == (2, 2)
        assert apart.first == ["7 uniform 1.0"]


def test_settings_that_differ_are_named() -> None:
    other = BASE.model_copy(
        update={"id": "run_x", "name": "x", "epoch": 8, "seed": BASE.seed + 1,
                "limits": BASE.limits.model_copy(update={"max_staleness": 77}),
                "last_rebuild": Rebuild.model_validate_json(example("Rebuild"))}
    )  # fmt: skip
    assert config_differences(BASE, other) == {
        "seed": (BASE.seed, BASE.seed + 1),
        "limits.max_staleness": (BASE.limits.max_staleness, 77),
    }


def test_the_tasks_that_differ_most_come_first() -> None:
    def tasks(*emas: float | None) -> list[TaskSummary]:
        shown = TaskSummary.model_validate({**json.loads(example("TaskPage"))["items"][0]})
        assert shown.statistics is not None
        return [
            shown.model_copy(
                update={
                    "ordinal": i,
                    "statistics": None
                    if ema is None
                    else shown.statistics.model_copy(update={"success_ema": ema}),
                }
            )
            for i, ema in enumerate(emas)
        ]

    num, differing, found = compare_tasks(
        tasks(0.5, 0.5, None, 0.1, None), tasks(0.5, 0.4, None, 0.9, 0.2), most=2
    )
    assert (num, differing) == (5, 3)
    assert [pair.ordinal for pair in found] == [4, 3], "a task seen in one run only weighs more"
    verdict = Difference("a", "b", {}, None, num_tasks=num, num_tasks_differing=differing).verdict()
    assert verdict == "the same 0 draws, other outcomes; 3 of 5 tasks differ"
