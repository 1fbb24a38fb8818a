"""SkyRL's trainer with the curriculum: drawn, reported before its filter, killed, resumed."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import AutoTokenizer

from etude_client import EtudeClient
from etude_client.adapters.rewards import Scale
from etude_proto.v1 import FinishReason
from support.skyrl_scene import (
    NUM_ROWS,
    Generator,
    Killed,
    Policy,
    in_process,
    rows_file,
    skyrl_imports,
)
from support.tree import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "skyrl" / "train.py"
Make = Callable[..., tuple[Any, Generator]]
# torchdata's loader calls what torch 2.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

BATCH, GROUP, STEPS, SAVE_EVERY = 4, 4, 7, 2


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The documented file, as a module."""
    spec = importlib.util.spec_from_file_location("skyrl_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with skyrl_imports():
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(
    example: ModuleType, policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Make:
    """Makes the example's trainer, with a policy of this process."""
    from skyrl.train import trainer as trainer_module
    from skyrl.train.config import SkyRLTrainConfig
    from skyrl.train.dataset import PromptDataset
    from skyrl.train.entrypoints import main_base
    from skyrl.train.utils.tracking import Tracking

    monkeypatch.setattr(main_base, "RayPPOTrainer", in_process(trainer_module.RayPPOTrainer))
    monkeypatch.setattr(trainer_module, "configure_ray_worker_logging", lambda: None)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    data = PromptDataset([str(rows_file(tmp_path))], tokenizer, 64, num_workers=1)

    def trainer(**changes: object) -> tuple[Any, Generator]:
        cfg = SkyRLTrainConfig.from_cli_overrides(
            {
                "trainer.train_batch_size": BATCH,
                "trainer.policy_mini_batch_size": BATCH,
                "trainer.epochs": 3,
                "trainer.max_training_steps": STEPS,
                "trainer.eval_interval": -1,
                "trainer.ckpt_interval": SAVE_EVERY,
                "trainer.ckpt_path": str(tmp_path / "saved"),
                "trainer.print_example_interval": 0,
                "trainer.placement.colocate_all": False,
                "trainer.algorithm.dynamic_sampling.type": "filter",
                "generator.n_samples_per_prompt": GROUP,
                "generator.inference_engine.enable_ray_prometheus_stats": False,
                "data.dataloader.num_workers": 0,
                **changes,
            }
        )
        policy = Policy()
        generator = Generator(policy, random.Random(0))
        exp = example.CurriculumExp.__new__(example.CurriculumExp)
        made = exp.get_trainer(
            cfg, Tracking("p", "e", "console"), tokenizer, data, None, None, generator, None
        )
        made.dispatch = policy
        return made, generator

    return trainer


@pytest.mark.timeout(240)
def test_a_killed_trainer_goes_on_from_its_checkpoint(
    make: Make, sampler_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ETUDE_SAMPLER_URL", sampler_url)
    first, one = make()
    first.dies_at = 4
    with pytest.raises(Killed):
        asyncio.run(first.train())
    saved = (tmp_path / "saved" / "latest_ckpt_global_step.txt").read_text()
    assert saved == "2"

    second, two = make()
    asyncio.run(second.train())
    with EtudeClient(sampler_url) as client:
        (run,) = client.iter_runs()
        (restore,) = client.list_restores(run.id).items
        view = client.get_curriculum(run.id)
        history = list(client.iter_history(run.id))
    assert restore.policy_version == 2
    assert view.policy_version == second.dispatch.step == STEPS
    # What was generated after the checkpoint is void; the rest counted once, filtered or not.
    kept = [rows for step, rows in one.made if step <= 2] + [rows for _, rows in two.made]
    assert next(step for step, _ in two.made) == 3
    assert len(kept) > STEPS  # the filter asked again
    assert view.num_groups_applied == sum(map(len, kept))
    assert all(len(set(rows)) == len(rows) == BATCH - 1 for rows in kept)  # one was cut off,
    (follower,) = second._callback_handler.callbacks
    assert follower.sampler.held == []  # and given back
    assert view.counts.num_prompt_leases == 0
    newest = [point for point in history if point.policy_version > 2][-STEPS + 2 :]
    assert [point.policy_version for point in newest] == list(range(3, STEPS + 1))
    assert {lane.name for lane in view.lanes} == {"uniform", "reward"}


def test_what_does_not_fit_is_said(
    make: Make, sampler_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETUDE_SAMPLER_URL", sampler_url)
    first, _ = make(**{"trainer.max_training_steps": 1, "trainer.ckpt_interval": -1})
    asyncio.run(first.train())
    again, _ = make(**{"trainer.ckpt_interval": -1})
    with pytest.raises(ValueError, match="at step 1, and the trainer at 0: resume both"):
        asyncio.run(again.train())
    with pytest.raises(ValueError, match="is there already with group_size 4, not 8"):
        make(**{"generator.n_samples_per_prompt": 8})
    too_many = NUM_ROWS + 1
    with pytest.raises(ValueError, match=f"holds up to {too_many} prompts at a time"):
        make(
            **{
                "trainer.train_batch_size": too_many,
                "trainer.policy_mini_batch_size": too_many,
            }
        )


@pytest.mark.usefixtures("example")
def test_step_wise_samples_are_one_rollout() -> None:
    from skyrl.train.generators.base import GeneratorInput, GeneratorOutput, TrajectoryID

    from etude_client.adapters.skyrl import REWARD, groups_of

    first, second = TrajectoryID("3", 0), TrajectoryID("5-again-1", 1)
    given = GeneratorInput(prompts=[], env_classes=[], trajectory_ids=[first, second])
    output = GeneratorOutput(
        response_ids=[[1, 2], [3], [4, 5, 6]],
        rewards=[[0.0, 0.0], [1.0], [0.25, 0.0, 0.5]],
        stop_reasons=["stop", "length", "abort"],
        trajectory_ids=[first, first, second],
        is_last_step=[False, True, True],
        env_metrics=[{}, {"calls": 4}, {}],
    )
    scale = Scale((REWARD, "calls"), {"calls": (0.0, 8.0)})
    groups = groups_of(given, output, scale)
    (cut,), (aborted,) = groups[3], groups[5]
    assert cut.components == {"reward": 1.0, "calls": 0.5}
    assert (cut.num_tokens, cut.finish_reason) == (3, FinishReason.LENGTH)
    assert aborted.components == {"reward": 0.75}
    assert aborted.finish_reason is FinishReason.ABORTED
