"""verl's trainers at work on a policy of one number a skill, without a GPU.

Loop, data set, filter, replay buffer, queue, validation and checkpoints are verl's own
(`PPOTrainer.fit`); what needs a GPU is done here and in `verl_policy.py`: generation, scores, the
policy's update. Run as a script with a folder, Ray's address, the word `train` or `all`, and
overrides of `docs/examples/verl/curriculum.yaml`; every group is noted in `groups.jsonl`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import ray
import torch
import transfer_queue
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from support.verl_policy import Loops, Policy, make_tokenizer, write_rows

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "verl"
LEARNING_RATE = 0.3
SETTINGS = "trainer.v1.sampler.sampler_kwargs"


class Small(PPOTrainer):  # type: ignore[misc]  # verl has no types
    """verl's trainer without worker groups."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.policy = self.actor_rollout_wg = Policy()
        self.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[])
        # The policy that generates is the one that is trained: nothing to send or put to sleep.
        nothing = lambda *_: None  # noqa: E731
        self.checkpoint_manager = SimpleNamespace(
            update_weights=nothing,
            sleep_replicas=nothing,
            abort_replicas=nothing,
            resume_generation_replicas=nothing,
        )

    def _setup(self) -> None:
        self.tokenizer, self.processor = make_tokenizer(), None
        self._init_dataloader()
        self._init_dump_executor()
        self._load_checkpoint()

    def _balance_batch(self, batch: KVBatchMeta, **_: object) -> KVBatchMeta:
        return batch

    _compute_old_log_prob = _compute_advantage = _balance_batch

    def _update_actor(self, batch: KVBatchMeta, **_: object) -> KVBatchMeta:
        fields = ["rm_scores", "data_source", "uid"]
        data = transfer_queue.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=fields
        )
        groups = defaultdict(list)
        for scores_T, skill, name in zip(*(list(data[one]) for one in fields), strict=True):
            groups[name, skill].append(float(scores_T.sum()))
        for (_, skill), rewards in groups.items():
            mean = sum(rewards) / len(rewards)
            chance = self.policy.chance(skill)
            for reward in rewards:
                step = (reward - mean) * ((reward > 0) - chance)
                self.policy.logits[skill] += LEARNING_RATE * step / len(rewards)
        return batch

    def _compute_metrics(self, *_: object, **__: object) -> None:
        pass


class SmallSync(Small, PPOTrainerSync):  # type: ignore[misc]  # likewise
    """A step after a step."""


class SmallAsync(Small, PPOTrainerColocateAsync):  # type: ignore[misc]  # likewise
    """Generation is a batch ahead."""


def composed(folder: Path, overrides: list[str]) -> DictConfig:
    """The example's configuration over verl's defaults, for this driver."""
    with initialize_config_dir(str(EXAMPLE), version_base=None):
        config = compose(
            "curriculum",
            overrides=[
                "hydra.searchpath=[pkg://verl.trainer.config]",
                f"data.train_files={folder}/train.jsonl",
                f"data.val_files={folder}/val.jsonl",
                f"+data.cache_dir={folder}/cache",
                f"trainer.default_local_dir={folder}/checkpoints",
                "trainer.logger=[console]",
                "algorithm.adv_estimator=grpo",
                *overrides,
            ],
        )
    OmegaConf.resolve(config)
    return config


def changed(config: DictConfig, changes: list[str]) -> DictConfig:
    """A configuration with some keys changed."""
    OmegaConf.set_struct(config, False)
    made = OmegaConf.merge(config, OmegaConf.from_dotlist(changes))
    assert isinstance(made, DictConfig)
    return made


def train(config: DictConfig, log: Path) -> None:
    """What verl's `TaskRunnerV1` does."""
    for partition, keys in transfer_queue.kv_list().items():
        if keys:  # of a job that is over
            transfer_queue.kv_clear(keys=list(keys), partition_id=partition)
    trainer = (SmallSync if config.trainer.v1.trainer_mode == "sync" else SmallAsync)(config)
    trainer.init()
    trainer.fit(Loops(trainer, log))


def train_ahead(config: DictConfig, folder: Path) -> None:
    """Four steps of the asynchronous trainer, and two more after a resume; with a budget."""
    changes = [
        "trainer.v1.trainer_mode=colocate_async",
        "trainer.v1.sampler.custom_sampler.name=AsyncCurriculumBuffer",
        f"{SETTINGS}.run=ahead",
        f"{SETTINGS}.preset=cures",
        f"trainer.default_local_dir={folder}/ahead",
    ]
    for life, total in enumerate((4, 6)):
        steps = [f"trainer.total_training_steps={total}"]
        train(changed(config, [*changes, *steps]), folder / f"ahead-{life}.jsonl")


def refusals(config: DictConfig, folder: Path) -> dict[str, str]:
    """What is said of settings that do not fit a run that was trained."""
    bare = folder / "bare" / "global_step_2"
    bare.mkdir(parents=True)
    Policy().save_checkpoint(str(bare / "actor"))
    torch.save({"_num_yielded": 2}, bare / "data.pt")
    resumed = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={bare}"]
    wrong = {
        "asynchronous": ["trainer.v1.trainer_mode=colocate_async"],
        "key": [f"{SETTINGS}.presets=dscl"],
        "group size": ["actor_rollout_ref.rollout.n=3"],
        "batch": ["data.train_batch_size=21"],
        "ahead": ["trainer.resume_mode=disable"],
        "bare": resumed,
    }
    said = {}
    for name, changes in wrong.items():
        try:
            train(changed(config, changes), folder / "never.jsonl")
        except ValueError as error:
            said[name] = str(error)
    return said


def main(folder: Path, address: str, what: str, overrides: list[str]) -> None:
    """Train, from the newest checkpoint if there is one; with `all`, also what else is tested."""
    config = composed(folder, overrides)
    ray.init(address=address, log_to_driver=False)
    transfer_queue.init()
    if not (folder / "train.jsonl").exists():
        write_rows(folder)
    train(config, folder / "groups.jsonl")
    if what == "all":
        (folder / "refusals.json").write_text(json.dumps(refusals(config, folder)))
        train_ahead(config, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
