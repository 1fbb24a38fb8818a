"""Made-up training batches for the step benchmarks: lengths, tokens, rewards, all from a seed.

Token values do not change what a step costs, lengths do; so tokens are random, and lengths are
those of short tool calls: prompts and completions of various sizes, a prompt shared by its group.
Read by `trainer_vs_trl.py` and `gpu.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from etude_trainer.batch import Group, TokenSequence


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a batch; completions and prompts are uniform between their bounds."""

    num_groups: int
    group_size: int
    prompt: tuple[int, int]
    completion: tuple[int, int]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """A batch of S sequences, group by group."""

    shape: Shape
    prompts: list[list[int]]
    completions: list[list[int]]
    rewards: list[float]

    @property
    def num_tokens(self) -> int:
        """Prompts and completions of all sequences."""
        return sum(map(len, self.prompts)) + sum(map(len, self.completions))

    @property
    def num_trained(self) -> int:
        """Tokens of completions."""
        return sum(map(len, self.completions))

    @property
    def advantages(self) -> list[float]:
        """(R - mean) / (sample deviation + 1e-6) inside each group."""
        rewards_BG = np.array(self.rewards).reshape(-1, self.shape.group_size)
        mean_B1 = rewards_BG.mean(axis=1, keepdims=True)
        std_B1 = rewards_BG.std(axis=1, ddof=1, keepdims=True)
        return [float(a) for a in ((rewards_BG - mean_B1) / (std_B1 + 1e-6)).ravel()]

    def groups(self) -> tuple[Group, ...]:
        """The batch as our trainer takes it."""
        size = self.shape.group_size
        found = []
        for number in range(self.shape.num_groups):
            part = slice(number * size, (number + 1) * size)
            rewards = tuple(self.rewards[part])
            pairs = zip(self.prompts[part], self.completions[part], strict=True)
            found.append(
                Group(
                    task_id=f"task_{number}",
                    lane="uniform",
                    staleness=0,
                    rewards_G=rewards,
                    rule_rewards_G=rewards,
                    successes_G=tuple(reward == 1.0 for reward in rewards),
                    components={},
                    sequences=tuple(_sequence(prompt, answer) for prompt, answer in pairs),
                )
            )
        return tuple(found)


def _sequence(prompt: list[int], completion: list[int]) -> TokenSequence:
    tokens_T = np.array([*prompt, *completion], dtype=np.int32)
    return TokenSequence(
        tokens_T=tokens_T,
        trained_T=np.arange(len(tokens_T)) >= len(prompt),
        lp_rollout_T=np.zeros(len(tokens_T), dtype=np.float32),
    )


def make_work(shape: Shape, *, vocab_size: int) -> Work:
    """A batch of that shape."""
    rng = np.random.default_rng(shape.seed)
    prompts: list[list[int]] = []
    completions: list[list[int]] = []
    rewards: list[float] = []
    for _ in range(shape.num_groups):
        prompt = rng.integers(3, vocab_size, size=_length(rng, shape.prompt)).tolist()
        for _ in range(shape.group_size):
            size = _length(rng, shape.completion)
            prompts.append(prompt)
            completions.append(rng.integers(3, vocab_size, size=size).tolist())
            rewards.append(float(rng.integers(0, 4)) / 3.0)
        rewards[-1] = 1.0 - rewards[-2]  # no group of equal rewards
    return Work(shape, prompts, completions, rewards)


def _length(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(bounds[0], bounds[1] + 1))
