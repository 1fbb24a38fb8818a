"""A rank that runs out of memory among others that do not: all go on with smaller passes.

Real allocations that the system refuses, on rank 1 alone, at places of a pass: hooks ask for what
no machine has while a pass is larger than a limit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from etude_trainer.config import parse_config
from etude_trainer.errors import OutOfMemory
from etude_trainer.learner import Learner
from etude_trainer.parallel.crew import ALONE, Crew, StepAbandoned
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from support.rank_process import Weights, batch_of, in_ranks, quiet, weights_of

CONFIG = """
[optimizer]
lr = 1e-4
[batch]
micro_batch_tokens = {tokens}
share_prompts = false
mini_batch_groups = {groups}
[model]
gradient_checkpointing = {recomputes}
"""
TOKENS, LIMIT = 512, 70
"""Of a pass; the second is what rank 1 has room for."""

Place = Callable[[nn.Module, int], None]


def too_much(*_: object) -> None:
    """What no machine has."""
    torch.empty(1 << 50)


def size_of(tensor: Tensor) -> int:
    return tensor.shape[0] * tensor.shape[1]


def on_the_way(name: str) -> Place:
    """Fails before a part of the decoder computes."""

    def put(decoder: nn.Module, limit: int) -> None:
        def hook(_part: nn.Module, args: tuple[Tensor, ...]) -> None:
            if size_of(args[0]) > limit:
                too_much()

        decoder.get_submodule(name).register_forward_pre_hook(hook)

    return put


def on_the_way_back(name: str) -> Place:
    """Fails while the gradient of a part is computed."""

    def put(decoder: nn.Module, limit: int) -> None:
        def hook(_part: nn.Module, _args: object, output: Tensor) -> None:
            if output.requires_grad and size_of(output) > limit:
                output.register_hook(too_much)

        decoder.get_submodule(name).register_forward_hook(hook)

    return put


PLACES: dict[str, tuple[Place, int, bool]] = {
    "first layer": (on_the_way("layers.0.mlp"), 0, False),
    "first layer, back": (on_the_way_back("layers.0.mlp"), 0, False),
    "old log-probabilities": (on_the_way("layers.1.mlp"), 2, False),
    "recomputed": (on_the_way_back("layers.1.mlp"), 2, True),
}
"""Where; groups of an update (0: one update, without a pass before it); whether layers are
computed again on the way back."""


def learner_of(folder: Path, *, tokens: int, groups: int, recomputes: bool, crew: Crew) -> Learner:
    text = CONFIG.format(tokens=tokens, groups=groups, recomputes=str(recomputes).lower())
    return build_learner(folder, parse_config(text), device="cpu", crew=crew)


class Warnings(logging.Handler):
    """The reasons of the warnings that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []
        logging.getLogger("etude_trainer").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(f"{record.getMessage()}: {vars(record)['reason']}")


Step = tuple[Weights, dict[str, float], list[str], int | None]


def all_places(model_dir: Path, crew: Crew) -> list[Step]:
    """A step for every place where rank 1 has no room: weights, metrics, warnings, what fitted."""
    results = []
    for place, groups, recomputes in PLACES.values():
        learner = learner_of(
            model_dir, tokens=TOKENS, groups=groups, recomputes=recomputes, crew=crew
        )
        if crew.rank == 1:
            place(learner.policy.module.get_decoder(), LIMIT)  # type: ignore[operator]
        heard = Warnings()
        metrics = learn(learner, batch_of(model_dir, 0), step=0, progress=quiet)
        results.append((weights_of(learner), metrics, heard.found, learner.room.max_tokens))
    return results


def hopeless(model_dir: Path, crew: Crew) -> tuple[str, Weights]:
    """What ends a step for which rank 1 can never have room, and a step after it that fits."""
    learner = learner_of(model_dir, tokens=TOKENS, groups=2, recomputes=False, crew=crew)
    first = weights_of(learner)
    hooks = learner.policy.module.get_decoder().norm  # type: ignore[operator]
    if crew.rank == 1:
        on_the_way("norm")(learner.policy.module.get_decoder(), 2)  # type: ignore[operator]
    try:
        learn(learner, batch_of(model_dir, 0), step=0, progress=quiet)
    except (OutOfMemory, StepAbandoned) as error:
        ended = f"{type(error).__name__}: {error}"
    assert all(torch.equal(value, first[name]) for name, value in weights_of(learner).items())
    hooks._forward_pre_hooks.clear()
    learn(learner, batch_of(model_dir, 0), step=0, progress=quiet)
    return ended, weights_of(learner)


def both(model_dir: Path, crew: Crew) -> tuple[list[Step], tuple[str, Weights]]:
    """One start of the ranks for both tests."""
    return all_places(model_dir, crew), hopeless(model_dir, crew)


@pytest.fixture(scope="module")
def by_rank(
    tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[list[Step], tuple[str, Weights]]]:
    """What two ranks found."""
    return in_ranks(partial(both, tiny_dir), num_ranks=2, out=tmp_path_factory.mktemp("ranks"))


@pytest.mark.slow
def test_wherever_one_rank_fails_all_go_on_in_smaller_passes_with_the_same_numbers(
    tiny_dir: Path, by_rank: list[tuple[list[Step], tuple[str, Weights]]]
) -> None:
    for number, (name, (_, groups, recomputes)) in enumerate(PLACES.items()):
        alone = learner_of(
            tiny_dir, tokens=TOKENS, groups=groups, recomputes=recomputes, crew=ALONE
        )
        want_metrics = learn(alone, batch_of(tiny_dir, 0), step=0, progress=quiet)
        want = weights_of(alone)
        for rank, (results, _) in enumerate(by_rank):
            weights, metrics, heard, fitted = results[number]
            gap = max(float((weights[key] - want[key]).abs().max()) for key in want)
            assert gap <= 1e-6, name
            for key in ("loss", "grad_norm", "kl_rollout", "num_tokens_trained"):
                assert metrics[key] == pytest.approx(want_metrics[key], rel=1e-5, abs=1e-6), name
            assert fitted is not None, name
            assert fitted <= TOKENS // 2
            assert metrics["micro_batch_tokens"] <= fitted
            assert bool(heard) is (rank == 0), "the leader tells"
            for warning in heard:
                assert warning.startswith("memory.exhausted: rank 1: "), warning
                assert "can't allocate memory" in warning


@pytest.mark.slow
def test_where_passes_cannot_get_smaller_every_rank_gives_the_step_up(
    tiny_dir: Path, by_rank: list[tuple[list[Step], tuple[str, Weights]]]
) -> None:
    (_, (leader, weights)), (_, (follower, _)) = by_rank
    assert leader.startswith("OutOfMemory: a single sequence of ")
    assert "(rank 1: " in leader
    assert follower.startswith("StepAbandoned: rank 1: ")
    alone = learner_of(tiny_dir, tokens=TOKENS, groups=2, recomputes=False, crew=ALONE)
    learn(alone, batch_of(tiny_dir, 0), step=0, progress=quiet)
    want = weights_of(alone)
    assert max(float((weights[name] - want[name]).abs().max()) for name in want) <= 1e-6
