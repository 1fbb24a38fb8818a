"""verl's trajectories as rollouts, the keys of its configuration, and what does not fit."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from omegaconf import DictConfig, OmegaConf

from etude_client.adapters.rewards import Scale
from etude_client.adapters.rows import ColumnFault
from etude_client.adapters.verl_groups import Trajectory, rollouts_of
from etude_client.adapters.verl_loader import tasks_in
from etude_client.adapters.verl_settings import (
    VerlSettings,
    check_config,
    check_fit,
    num_in_flight,
)
from etude_proto.v1 import FinishReason, ResolvedPart, Run
from support.blocks import blocks_of
from support.contract import example
from support.markdown import page
from support.tree import ROOT

SCORE = Scale(("score",), {"score": (-1.0, 1.0)})


def _trajectory(
    key: str, reward: float = 1.0, *, length: int = 5, info: Mapping[str, object] | None = None
) -> Trajectory:
    return Trajectory(
        key=key,
        reward=reward,
        info=info or {},
        num_tokens=length - 1,
        response_len=length,
        num_turns=4,
    )


def test_a_session_is_scored_by_its_last_output() -> None:
    group = [_trajectory("u-1_1_0", 1.0), _trajectory("u-1_0_10", 1.0), _trajectory("u-1_0_9", -1)]
    first, second = rollouts_of(group, num_rollouts=2, scale=SCORE, max_tokens=8)
    assert first.reward == second.reward == 1.0
    assert first.components == {"score": 1.0}
    assert first.is_success
    assert (first.num_tokens, first.num_turns, first.finish_reason) == (4, 2, FinishReason.STOP)


def test_sessions_without_a_trajectory_are_no_evidence() -> None:
    made = rollouts_of([_trajectory("u_2_0", -1.0)], num_rollouts=4, scale=SCORE, max_tokens=8)
    assert [one.finish_reason for one in made] == ["stop", "error", "error", "error"]
    assert not made[0].is_success
    none = rollouts_of([], num_rollouts=2, scale=SCORE, max_tokens=8)
    assert [one.finish_reason for one in none] == ["error", "error"]


def test_a_response_as_long_as_allowed_was_cut() -> None:
    (made,) = rollouts_of(
        [_trajectory("u_0_0", length=8)], num_rollouts=1, scale=SCORE, max_tokens=8
    )
    assert made.finish_reason is FinishReason.LENGTH


def test_components_are_what_the_reward_function_returned() -> None:
    scale = Scale(("right", "format", "score"), {"score": (0.0, 4.0)})
    info: dict[str, object] = {"right": True, "format": None, "note": "fine"}
    (made,) = rollouts_of(
        [_trajectory("u_0_0", 2.0, info=info)], num_rollouts=1, scale=scale, max_tokens=8
    )
    assert made.components == {"right": 1.0, "score": 0.5}
    assert made.reward == 2.0


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"acc": 1.0}, "returned no 'right'.*it returned acc"),
        ({"right": "yes"}, "returned 'yes' as 'right'"),
    ],
)
def test_a_component_that_is_not_there_is_said(info: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rollouts_of(
            [_trajectory("u_0_0", info=info)], num_rollouts=1, scale=Scale(("right",)), max_tokens=8
        )


def test_a_reward_that_is_not_a_number_is_no_evidence() -> None:
    (made,) = rollouts_of(
        [_trajectory("u_0_0", float("nan"))], num_rollouts=1, scale=SCORE, max_tokens=8
    )
    assert made.finish_reason is FinishReason.ERROR


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, r"sampler_kwargs\.run: Field required"),
        ({"run": "a", "rum": "b"}, r"sampler_kwargs\.rum: Extra inputs"),
        ({"run": "a", "url": "http://x", "local": "y"}, "url or local, not both"),
        ({"run": "a", "ranges": {"right": [0, 1]}}, "no reward function is named right"),
        ({"run": "a", "ranges": {"score": [1, 1]}}, "must be \\(low, high\\)"),
        ({"run": "a", "on_outage": "panic"}, r"sampler_kwargs\.on_outage"),
    ],
)
def test_keys_that_make_no_sense(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VerlSettings.of(keys)


def _config(**changes: object) -> DictConfig:
    config = OmegaConf.create(
        {
            "trainer": {"v1": {"trainer_mode": "sync"}},
            "reward": {"reward_model": {"enable": False, "enable_resource_pool": False}},
            "skip": {"rollout_tq": {"enable": False}},
            "data": {"train_batch_size": 4},
            "algorithm": {"filter_groups": {"enable": False, "max_inflight_gen_batches": 3}},
        }
    )
    for name, value in changes.items():
        OmegaConf.update(config, name.replace("__", "."), value)
    return config


def test_settings_that_fit() -> None:
    check_config(_config(), is_async=False)
    check_config(_config(trainer__v1__trainer_mode="colocate_async"), is_async=True)
    check_config(
        _config(reward__reward_model__enable=True, reward__reward_model__enable_resource_pool=True),
        is_async=False,
    )
    assert num_in_flight(_config()) == 4
    assert num_in_flight(_config(algorithm__filter_groups__enable=True)) == 12
    ahead = _config(trainer__v1={"trainer_mode": "x_async", "x_async": {"num_warmup_batches": 1.5}})
    assert num_in_flight(ahead) == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainer__v1__trainer_mode": "separate_async"}, "name AsyncCurriculumBuffer"),
        ({"reward__reward_model__enable": True}, "enable_resource_pool=True"),
        ({"skip__rollout_tq__enable": True}, "nothing to report"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_config(_config(**changes), is_async=False)


def _run(*, group_size: int = 8, num_tasks: int = 8, budget: ResolvedPart | None = None) -> Run:
    run = Run.model_validate_json(example("Run"))
    resolved = run.resolved.model_copy(update={"budget": budget})
    return run.model_copy(
        update={"group_size": group_size, "num_tasks": num_tasks, "resolved": resolved}
    )


def test_a_run_that_fits() -> None:
    check_fit(_run(), group_size=8, num_prompts=8, num_tasks=8)
    budget = ResolvedPart(name="knapsack", knobs={})
    check_fit(_run(budget=budget), group_size=8, num_prompts=8, num_tasks=8)


@pytest.mark.parametrize(
    ("run", "num_prompts", "words"),
    [
        (_run(group_size=4), 4, "groups of 4, the trainer of 8"),
        (_run(budget=ResolvedPart(name="speed", knobs={})), 4, "budget 'speed'.*two phases"),
        (_run(num_tasks=7), 4, "has 7 tasks, data.train_files 8"),
        (_run(), 9, "8 different prompts are too few for 9"),
    ],
)
def test_a_run_that_does_not(run: Run, num_prompts: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_fit(run, group_size=8, num_prompts=num_prompts, num_tasks=8)


def test_a_run_that_leases_too_few() -> None:
    run = _run(num_tasks=100)
    capped = run.model_copy(update={"limits": run.limits.model_copy(update={"cap_groups": 64})})
    check_fit(capped, group_size=8, num_prompts=64, num_tasks=100)
    with pytest.raises(ValueError, match=r"up to 96 prompts at a time .* leases 64 at most"):
        check_fit(capped, group_size=8, num_prompts=96, num_tasks=100)


def test_rows_of_text_are_tasks_and_others_are_refused() -> None:
    text = {"raw_prompt": [{"role": "user", "content": "one"}], "data_source": "a"}
    (task,) = tasks_in([text], subtasks=("score",), source="data_source")
    assert (task.messages[0].content, task.source) == ("one", "a")
    picture = {"type": "image", "image": object()}
    seen = {"raw_prompt": [{"role": "user", "content": [picture]}], "data_source": "a"}
    with pytest.raises(ColumnFault, match="holds a part of type 'image'"):
        tasks_in([text, seen], subtasks=("score",), source="data_source")


def test_the_page_shows_the_example_that_is_run() -> None:
    (shown,) = [one for one in blocks_of(page("docs/how-to/verl.md")) if one.language == "yaml"]
    file = (ROOT / "docs" / "examples" / "verl" / "curriculum.yaml").read_text()
    assert file.endswith(f"\n{shown.body}")
