"""SkyRL's own trainer, data set and environment around a policy of two numbers, in this process.

What is replaced are the workers on GPUs: the dispatcher that holds weights, and the engine that
generates. SkyRL's loop, loader, dynamic sampling, callbacks and checkpoints are its own.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import typing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typing_extensions

SKILLS = ("add", "double")
NUM_ROWS = 24


class Killed(Exception):
    """The trainer ends here."""


@contextmanager
def skyrl_imports() -> Iterator[None]:
    """SkyRL is written for Python 3.12, where pydantic takes `typing.TypedDict`, and its entry
    point sets how processes start: neither outlives the imports."""
    ours, method = typing.TypedDict, multiprocessing.get_start_method(allow_none=True)
    typing.TypedDict = typing_extensions.TypedDict
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        typing.TypedDict = ours
        multiprocessing.set_start_method(method, force=True)


@dataclass
class Policy:
    """How likely each skill succeeds; also the dispatcher that keeps it."""

    logits: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SKILLS, -1.0))
    step: int = 0

    def get_lcm_dp_size(self) -> int:
        return 3  # SkyRL drops rows of a batch, so that its samples divide evenly

    def get_node_ids(self) -> list[str]:
        return []

    async def save_weights_for_sampler(self) -> None:
        """The policy generates with the weights that it has."""

    def save_checkpoint(self, model: str, folder: str, tokenizer: object) -> None:
        Path(folder).mkdir(parents=True)
        state = {"logits": self.logits, "step": self.step}
        (Path(folder) / f"{model}.json").write_text(json.dumps(state))

    def load_checkpoint(self, model: str, folder: str, **more: object) -> None:
        state = json.loads((Path(folder) / f"{model}.json").read_text())
        self.logits, self.step = state["logits"], state["step"]


@dataclass
class Generator:
    """Generates with the policy, and scores with SkyRL's environment for arithmetic."""

    policy: Policy
    chance: random.Random
    made: list[tuple[int, list[str]]] = field(default_factory=list)
    """By generation, the step and the rows."""

    async def generate(self, given: dict[str, Any]) -> dict[str, Any]:
        import skyrl_gym

        rewards = []
        for prompt, extras in zip(given["prompts"], given["env_extras"], strict=True):
            skill = prompt[0]["content"].split()[0]
            env = skyrl_gym.make("gsm8k", extras=extras)
            right = self.chance.random() < 1 / (1 + math.exp(-self.policy.logits[skill]))
            said = extras["reward_spec"]["ground_truth"] if right else "-1"
            rewards.append(float(env.step(f"#### {said}")["reward"]))
        names = given["trajectory_ids"]
        rows = list(dict.fromkeys(name.instance_id for name in names))
        self.made.append((given["batch_metadata"].global_step, rows))
        return {
            "prompt_token_ids": [[5, 6]] * len(names),
            "response_ids": [[7, 8, 1]] * len(names),
            "rewards": rewards,
            "loss_masks": [[1, 1, 1]] * len(names),
            "stop_reasons": ["stop"] * len(names),
            "rollout_metrics": {},
            "rollout_logprobs": None,
        }


def rows_file(folder: Path) -> Path:
    """Rows as SkyRL reads them."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"{skill} {number}"}],
            "env_class": "gsm8k",
            "reward_spec": {"method": "rule", "ground_truth": str(number)},
            "skill": skill,
        }
        for skill in SKILLS
        for number in range(NUM_ROWS // 2)
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def in_process(base: type[Any]) -> type[Any]:
    """SkyRL's trainer with the policy of this module instead of workers."""

    class InProcess(base):  # type: ignore[misc]
        dies_at: int | None = None

        def init_weight_sync_state(self) -> None:
            """Nothing to connect."""

        def fwd_logprobs_values_reward(self, training_input: object) -> object:
            return training_input

        def compute_advantages_and_returns(self, data: object) -> object:
            return data

        def _cleanup_old_checkpoints(self) -> None:
            """No nodes to ask."""

        def train_critic_and_policy(self, data: object) -> dict[str, float]:
            if self.global_step == self.dies_at:
                raise Killed
            policy: Policy = self.dispatch
            policy.step += 1
            for skill in policy.logits:
                policy.logits[skill] += 0.05
            return {"policy_loss": 1.0 / policy.step}

    return InProcess
