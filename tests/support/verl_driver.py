"""verl's synchronous trainer at work on a policy of one number a skill, without a GPU.

Loop, data set, filter, replay buffer, queue, validation and checkpoints are verl's own
(`PPOTrainerSync.fit`); what needs a GPU is done here: generation, scores, the policy's update. Run
as a script with a folder, Ray's address and overrides of `docs/examples/verl/curriculum.yaml`; it
notes every group in `groups.jsonl`.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
import torch
import transfer_queue
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from tokenizers import Tokenizer, models, pre_tokenizers
from transfer_queue import KVBatchMeta
from transformers import PreTrainedTokenizerFast
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "verl"
DIGITS = [str(digit) for digit in range(10)]
SKILLS: dict[str, Callable[[int], int]] = {
    "copy": lambda digit: digit,
    "next": lambda digit: (digit + 1) % 10,
}
WORDS = ["<pad>", "<eos>", "user:", "assistant:", *SKILLS, *DIGITS]
LEARNING_RATE = 0.3
BROKEN = "copy 9"
"""A prompt whose tools never work: every rollout of it fails."""
SHAKY = "next 9"
"""A prompt of which every other rollout fails."""


class SessionFailed(Exception):
    """A rollout that ended for a technical reason."""


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, object]
) -> dict[str, float]:
    """A reward function of verl's shape."""
    is_right = float(solution_str == ground_truth)
    return {"score": 2 * is_right - 1, "is_digit": float(solution_str in DIGITS), "right": is_right}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of words with a chat template."""
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )
    fast.chat_template = (
        "{% for turn in messages %}{{ turn.role }}: {{ turn.content }} {% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    return fast


def write_rows(folder: Path) -> None:
    """Twenty prompts to train on and two to validate with, as verl's data are written."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{name} {digit}"}],
            "data_source": name,
            "reward_model": {"style": "rule", "ground_truth": str(skill(digit))},
            "extra_info": {"index": digit},
        }
        for name, skill in SKILLS.items()
        for digit in range(10)
    ]
    for name, some in (("train", rows), ("val", [rows[3], rows[13]])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


class Policy:
    """How likely each skill succeeds; in the place of verl's workers."""

    def __init__(self) -> None:
        self.logits = {"copy": 0.0, "next": -1.0}

    def chance(self, skill: str) -> float:
        """Of being right."""
        return 1 / (1 + math.exp(-self.logits[skill]))

    def save_checkpoint(self, path: str, *_: object, **__: object) -> None:
        Path(path).mkdir(parents=True)
        (Path(path) / "policy.json").write_text(json.dumps(self.logits))

    def load_checkpoint(self, local_path: str, **_: object) -> None:
        self.logits = json.loads((Path(local_path) / "policy.json").read_text())


class Loops:
    """verl's agent loops: groups of one-word answers, scored, into the queue."""

    def __init__(self, trainer: SmallTrainer, log: Path) -> None:
        self._trainer = trainer
        self._log = log
        self._random = random.Random(trainer.global_steps)

    def generate_sequences(self, batch: TensorDict) -> None:
        """Make and score the groups of a batch."""
        is_validation = "validate" in batch.keys()  # noqa: SIM118 - a TensorDict
        config = self._trainer.config.actor_rollout_ref.rollout
        size = config.val_kwargs.n if is_validation else config.n
        partition = "val" if is_validation else "train"
        for place in range(len(batch)):
            row = {
                name: getattr(batch[name][place], "data", batch[name][place])
                for name in ("uid", "raw_prompt", "data_source", "reward_model", "extra_info")
            }
            rewards, num_failed = [], 0
            for session in range(size):
                try:
                    rewards.append(self._session(row, session, partition))
                except SessionFailed:
                    num_failed += 1
            status = "failure" if num_failed else "finished"
            transfer_queue.kv_put(key=row["uid"], partition_id=partition, tag={"status": status})
            note = {
                "step": self._trainer.global_steps,
                "prompt": row["raw_prompt"][0]["content"],
                "rewards": rewards,
                "num_failed": num_failed,
            }
            if not is_validation:
                with self._log.open("a") as file:
                    file.write(json.dumps(note) + "\n")

    def _session(self, row: dict[str, Any], session: int, partition: str) -> float:
        prompt = row["raw_prompt"][0]["content"]
        if partition == "train" and (prompt == BROKEN or (prompt == SHAKY and session % 2)):
            raise SessionFailed
        gold = row["reward_model"]["ground_truth"]
        is_right = self._random.random() < self._trainer.policy.chance(row["data_source"])
        said = gold if is_right else self._random.choice([one for one in DIGITS if one != gold])
        scored = compute_score(row["data_source"], said, gold, row["extra_info"])
        text = self._trainer.tokenizer.apply_chat_template(
            row["raw_prompt"], tokenize=False, add_generation_prompt=True
        )
        output = AgentLoopOutput(
            prompt_ids=self._trainer.tokenizer.encode(text),
            response_ids=[WORDS.index(said), 1],
            response_mask=[1, 1],
            reward_score=scored["score"],
            num_turns=2,
            metrics=AgentLoopMetrics(),
            extra_fields={"reward_extra_info": scored},
        )
        fields = {**output.as_dict(), **row}
        length = len(output.prompt_ids) + 2
        transfer_queue.kv_batch_put(
            keys=[f"{row['uid']}_{session}_0"],
            fields=list_of_dict_to_tensordict([fields]),
            tags=[
                {
                    "status": "success",
                    "prompt_len": length - 2,
                    "response_len": 2,
                    "seq_len": length,
                    "global_steps": self._trainer.global_steps,
                }
            ],
            partition_id=partition,
        )
        return float(scored["score"])


class SmallTrainer(PPOTrainerSync):  # type: ignore[misc]  # verl has no types
    """verl's trainer without worker groups."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__(config)
        self.policy = self.actor_rollout_wg = Policy()
        self.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[])
        # The policy that generates is the one that is trained: nothing to send or put to sleep.
        nothing = lambda *_: None  # noqa: E731
        self.checkpoint_manager = SimpleNamespace(update_weights=nothing, sleep_replicas=nothing)

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


def train(config: DictConfig, folder: Path) -> None:
    """What verl's `TaskRunnerV1` does."""
    trainer = SmallTrainer(config)
    trainer.init()
    trainer.fit(Loops(trainer, folder / "groups.jsonl"))


def refusals(config: DictConfig, folder: Path) -> dict[str, str]:
    """What is said of settings that do not fit a run that was trained."""
    bare = folder / "bare" / "global_step_2"
    bare.mkdir(parents=True)
    Policy().save_checkpoint(str(bare / "actor"))
    torch.save({"_num_yielded": 2}, bare / "data.pt")
    resumed = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={bare}"]
    settings = "trainer.v1.sampler.sampler_kwargs"
    wrong = {
        "asynchronous": ["trainer.v1.trainer_mode=colocate_async"],
        "key": [f"{settings}.presets=dscl"],
        "group size": ["actor_rollout_ref.rollout.n=3"],
        "batch": ["data.train_batch_size=21"],
        "ahead": ["trainer.resume_mode=disable"],
        "bare": resumed,
    }
    said = {}
    OmegaConf.set_struct(config, False)
    for name, changes in wrong.items():
        changed = OmegaConf.merge(config, OmegaConf.from_dotlist(changes))
        assert isinstance(changed, DictConfig)
        try:
            train(changed, folder)
        except ValueError as error:
            said[name] = str(error)
    return said


def main(folder: Path, address: str, overrides: list[str]) -> None:
    """Train, from the newest checkpoint if there is one; with `refusals` first, also try those."""
    also = overrides[:1] == ["refusals"]
    config = composed(folder, overrides[also:])
    ray.init(address=address, log_to_driver=False)
    transfer_queue.init()
    for partition, keys in transfer_queue.kv_list().items():
        if keys:  # of a driver that was killed
            transfer_queue.kv_clear(keys=list(keys), partition_id=partition)
    if not (folder / "train.jsonl").exists():
        write_rows(folder)
    train(config, folder)
    if also:
        (folder / "refusals.json").write_text(json.dumps(refusals(config, folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
