"""A tiny policy that knows a few prompts by heart, for tests of what it is shown.

Real weights of a real model, trained here by gradient descent until every token of every lesson is
near certain: sampled coldly, the policy says what it was taught, and only where it was taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from etude_rollout.models.tiny import make_model

COLD = 0.05
"""Temperature at which a taught policy is sampled."""
_IGNORED = -100
_SURE = 0.9
_MAX_STEPS = 400


@dataclass(frozen=True, slots=True)
class Lesson:
    """What to say after a prompt."""

    prompt_ids: tuple[int, ...]
    says: str


def new_policy(directory: Path) -> Path:
    """The tiny policy with random weights; returns the folder."""
    make_model(directory)
    return directory


def teach(directory: Path, lessons: Sequence[Lesson]) -> None:
    """Train the policy of a folder until it knows the lessons.

    Raises:
        AssertionError: it does not learn them.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    rows = []
    for lesson in lessons:
        answer = [*tokenizer.encode(lesson.says, add_special_tokens=False), tokenizer.eos_token_id]
        labels = [_IGNORED] * len(lesson.prompt_ids) + answer
        rows.append(([*lesson.prompt_ids, *answer], labels))
    width = max(len(ids) for ids, _ in rows)
    ids_BL = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
    labels_BL = torch.tensor([row + [_IGNORED] * (width - len(row)) for _, row in rows])
    mask_BL = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # steps are small: on busy cores a second thread only waits
    try:
        _train(model, ids_BL, labels_BL, mask_BL)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(directory)


def _train(
    model: torch.nn.Module,
    ids_BL: torch.Tensor,
    labels_BL: torch.Tensor,
    mask_BL: torch.Tensor,
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(_MAX_STEPS):
            logits = model(input_ids=ids_BL, attention_mask=mask_BL).logits[:, :-1]
            target_BL = labels_BL[:, 1:]
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), target_BL.flatten(), ignore_index=_IGNORED, reduction="none"
            )
            if float(loss.detach().max()) < -torch.log(torch.tensor(_SURE)):
                break
            optimizer.zero_grad()
            loss.sum().div(int((target_BL != _IGNORED).sum())).backward()
            optimizer.step()
        else:
            raise AssertionError(f"not learned: {float(loss.detach().max())} nats")
