"""OpenRLHF's trainer with the curriculum: drawn, reported before its filter, killed, resumed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from etude_client import EtudeClient
from etude_client.adapters.openrlhf import REWARD, is_kept, rollout_of_response
from etude_client.adapters.rewards import Scale
from etude_proto.v1 import FinishReason
from support.openrlhf_scene import (
    Actors,
    Here,
    Killed,
    answers,
    arguments,
    in_process,
    openrlhf_imports,
    strategy,
)
from support.trainer_rows import PROMPTS, Player
from support.tree import ROOT

pytestmark = [
    # torchdata's loader calls what torch 2.13 deprecates.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    # OpenRLHF's loader for evaluation asks for a GPU's memory.
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning"),
]

EXAMPLE = ROOT / "docs" / "examples" / "openrlhf" / "train.py"
GROUP = 4
Make = Callable[..., tuple[Any, list[str]]]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The documented file, as a module."""
    spec = importlib.util.spec_from_file_location("openrlhf_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with openrlhf_imports():
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(
    example: ModuleType, policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Make:
    """Makes the example's trainer, with a policy of this process."""
    from openrlhf.trainer import ppo_trainer
    from openrlhf.trainer.ppo_utils import samples_generator

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(ppo_trainer, "ray", Here)
    monkeypatch.setattr(samples_generator, "ray", Here)
    in_this_process = in_process(example.CurriculumTrainer)
    saved: dict[str, Any] = {}

    def trainer(**changes: object) -> tuple[Any, list[str]]:
        player, asked = Player(), list[str]()

        def dispatch(prompts: list[str], labels: object, **more: object) -> list[list[Any]]:
            count = more.get("n_samples_per_prompt", GROUP)
            assert isinstance(count, int)
            return answers(player, asked, prompts, count)

        monkeypatch.setattr(
            samples_generator.SamplesGenerator,
            "_dispatch_prompts_to_vllm",
            lambda _, *given, **more: dispatch(*given, **more),
        )
        args = arguments(tmp_path, **changes)
        (tmp_path / "_actor").mkdir(exist_ok=True)
        actors = Actors(saved, player)
        made = in_this_process(str(policy_dir), strategy(args), actors, None, None, None, None)
        made.player = player
        return made, asked

    return trainer


@pytest.mark.timeout(240)
def test_a_killed_trainer_goes_on_from_its_checkpoint(
    make: Make, sampler_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_SAMPLER_URL", sampler_url)
    first, _ = make()
    first.dies_at = 4
    with pytest.raises(Killed):
        first.fit()
    with EtudeClient(sampler_url) as client:
        (run,) = client.iter_runs()
        before = client.get_curriculum(run.id)
        assert before.policy_version == 3
        # One where the trainer saves (2) or may keep its best (3), not one a step.
        taken = [one.policy_version for one in client.list_checkpoints(run.id).items]
        assert sorted(taken) == [2, 3]
        points = [point for point in client.iter_history(run.id) if point.policy_version <= 2]
        num_saved = sum(point.num_rollouts or 0 for point in points) // GROUP

        second, asked = make(**{"ckpt.load_enable": True})
        second.fit()
        view = client.get_curriculum(run.id)
        (restore,) = client.list_restores(run.id).items
    assert restore.policy_version == 2
    assert view.policy_version == second.player.num_steps > 2
    # An epoch of prompts was asked for in all, evaluation aside, and each counted once.
    num_evaluations = view.policy_version // 3
    trained = len(asked) - num_evaluations * len(PROMPTS)
    assert view.num_groups_applied == len(PROMPTS)
    assert num_evaluations >= 1
    assert trained == len(PROMPTS) - num_saved
    assert {lane.name for lane in view.lanes} == {"uniform", "reward"}


def test_what_does_not_fit_is_said(
    make: Make, sampler_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_SAMPLER_URL", sampler_url)
    with pytest.raises(ValueError, match="does not follow asynchronous training"):
        make(**{"train.async_enable": True})
    first, _ = make(**{"eval.steps": -1})
    first.fit()
    again, _ = make()
    with pytest.raises(ValueError, match="and the trainer at 0: resume both"):
        again.fit()


@pytest.mark.parametrize(("step", "kept"), [(2, True), (3, False), (5, True), (10, True)])
def test_the_state_is_taken_where_it_is_kept(step: int, *, kept: bool) -> None:
    assert is_kept(step, 2, 5) is kept
    assert not is_kept(step, float("inf"))


def test_a_response_is_a_rollout() -> None:
    scale = Scale((REWARD, "format"), {REWARD: (-1.0, 1.0)})
    response: dict[str, Any] = {
        "reward": 0.0,
        "extra_logs": {"format": torch.tensor([1.0]), "table": torch.zeros(2, 2)},
        "action_ranges": [(2, 5), (7, 9)],
        "truncated": True,
    }
    rollout = rollout_of_response(response, scale)
    assert rollout.components == {"reward": 0.5, "format": 1.0}
    assert rollout.finish_reason is FinishReason.LENGTH
    assert rollout.num_tokens == 5
    unscored = rollout_of_response({**response, "reward": None}, scale)
    assert unscored.finish_reason is FinishReason.ERROR
