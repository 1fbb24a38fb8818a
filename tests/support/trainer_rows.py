"""Prompts and a policy of a few numbers for trainers of other frameworks, and their data types.

prime-rl, NeMo RL and slime are in no package index: their data types are written here with the
fields that their own have, and the tests call the adapters in the order in which their trainers
do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

PROMPTS = [f"{skill} {number}?" for skill in ("add", "double") for number in range(12)]


@dataclass
class Player:
    """Is right more often the more steps it has made, the same way for the same seed."""

    seed: int = 0
    num_steps: int = 0
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def reward(self) -> float:
        """Of one rollout."""
        return float(self.chance.random() < 0.3 + 0.05 * self.num_steps)


class Status(Enum):
    """slime's `Sample.Status`."""

    PENDING = "pending"
    COMPLETED = "completed"
    TRUNCATED = "truncated"
    ABORTED = "aborted"
    FAILED = "failed"


@dataclass
class Sample:
    """slime's `Sample`, its fields that a data source and a reward touch."""

    prompt: str | list[dict[str, str]] = ""
    group_index: int | None = None
    index: int | None = None
    response: str = ""
    response_length: int = 0
    label: str | None = None
    reward: float | dict[str, Any] | None = None
    status: Status = Status.PENDING
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class SlimeArguments:
    """slime's arguments that its default rollout reads."""

    save: str | None
    load: str | None
    n_samples_per_prompt: int = 4
    rollout_batch_size: int = 4
    over_sampling_batch_size: int = 6
    partial_rollout: bool = False
    reward_key: str | None = None


@dataclass
class VfTask:
    """`verifiers.v1.Task`: a key."""

    key: str | None


@dataclass
class VfAgent:
    """Who speaks."""

    trainable: bool = True


@dataclass
class VfTrace:
    """`verifiers.v1.Trace`: a reward and metrics."""

    reward: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    has_error: bool = False
    num_turns: int = 1
    agent: VfAgent = field(default_factory=VfAgent)


@dataclass
class VfEpisode:
    """`verifiers.v1.Episode`: traces of one task."""

    task: VfTask
    traces: Sequence[VfTrace]
    ok: bool = True


class NemoTable:
    """NeMo RL's `AllTaskProcessedDataset`: rows as `DatumSpec`s."""

    def __len__(self) -> int:
        return len(PROMPTS)

    def __getitem__(self, row: int, /) -> dict[str, object]:
        return {
            "message_log": [{"role": "user", "content": PROMPTS[row], "token_ids": None}],
            "length": 3,
            "extra_env_info": {"answer": row},
            "loss_multiplier": 1.0,
            "idx": row,
            "task_name": PROMPTS[row].split()[0],
        }


@dataclass
class NemoModule:
    """`nemo_rl.algorithms.grpo`: the function that its loop finds by name."""

    scale_rewards: Callable[..., object] = field(
        default=lambda batch, *_: {**batch, "total_reward": batch["total_reward"] * 10}
    )


@dataclass
class NemoPolicy:
    """NeMo RL's policy."""

    num_steps: int = 0
    train: Callable[..., object] = field(init=False)

    def __post_init__(self) -> None:
        self.train = self._train

    def _train(self, *_: object) -> dict[str, float]:
        self.num_steps += 1
        return {"loss": 1.0 / self.num_steps}


def forever(make: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from make()
