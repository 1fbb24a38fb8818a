"""In the place of verl's GPU workers in `verl_driver.py`: a policy of one number a skill.

Its answers are one word; generation, the reward function and their way into verl's queue are here.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transfer_queue
from tensordict import TensorDict
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

DIGITS = [str(digit) for digit in range(10)]
SKILLS: dict[str, Callable[[int], int]] = {
    "copy": lambda digit: digit,
    "next": lambda digit: (digit + 1) % 10,
}
WORDS = ["<pad>", "<eos>", "user:", "assistant:", *SKILLS, *DIGITS]
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

    def __init__(self, trainer: PPOTrainer, log: Path) -> None:
        self._trainer = trainer
        self._log = log
        self._random = random.Random(trainer.global_steps)
        self._waiting: TensorDict | None = None
        self._num_calls = 0

    def generate_sequences(self, batch: TensorDict) -> None:
        """Make and score the groups of a batch; ahead of training, those of the last one."""
        if self._trainer.trainer_mode == "sync" or "validate" in batch.keys():  # noqa: SIM118
            self._generate(batch)
            return
        if self._waiting is not None:
            self._generate(self._waiting)
        self._waiting = batch

    def _generate(self, batch: TensorDict) -> None:
        self._num_calls += 1
        is_validation = "validate" in batch.keys()  # noqa: SIM118 - a TensorDict
        config = self._trainer.config.actor_rollout_ref.rollout
        size = config.val_kwargs.n if is_validation else config.n
        partition = "val" if is_validation else "train"
        for place in range(len(batch)):
            row = {
                name: getattr(batch[name][place], "data", batch[name][place])
                for name in ("uid", "raw_prompt", "data_source", "reward_model", "extra_info")
            }
            if "__rollout_n__" in batch.keys():  # noqa: SIM118
                size = getattr(batch["__rollout_n__"][place], "data", batch["__rollout_n__"][place])
            rewards, num_failed = [], 0
            for session in range(size):
                try:
                    rewards.append(self._session(row, session, partition))
                except SessionFailed:
                    num_failed += 1
            status = "failure" if num_failed else "finished"
            transfer_queue.kv_put(key=row["uid"], partition_id=partition, tag={"status": status})
            note = {
                "call": self._num_calls,
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
