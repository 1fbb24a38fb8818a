"""Parts of rollout tests: a tiny policy with a tokenizer, prompts for it, published weights."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from etude_proto.v1 import Arm, PromptItem, Scaffold, Split, Task, TaskCreate
from etude_proto.v1.tasks import task_id
from etude_rollout.engines import GenerationRequest, Sampling
from etude_rollout.engines.local_model import LOADING
from etude_rollout.models.tiny import make_model
from etude_rollout.models.tiny_tasks import draw_tasks
from etude_rollout.prompting import ChatTokenizer, Prompter, PromptOptions, load_tokenizer

SHORT = Sampling(max_new_tokens=24)

Change = Callable[[str, torch.Tensor], None]
"""Changes one named weight in place."""


def tiny_policy(directory: Path) -> Path:
    """Make the tiny policy with random weights; returns the folder."""
    make_model(directory)
    return directory


def bare_prompter(tokenizer: ChatTokenizer) -> Prompter:
    """Prompts as the tiny policy knows them."""
    return Prompter(tokenizer, PromptOptions(explain_format=False))


def requests(
    model_dir: Path,
    num_requests: int,
    *,
    num_completions: int = 4,
    sampling: Sampling = SHORT,
    seed: int = 7,
) -> list[GenerationRequest]:
    """Requests with prompts of different lengths."""
    prompter = bare_prompter(load_tokenizer(model_dir))
    tasks = [tiny.task for tiny in itertools.islice(draw_tasks(seed), num_requests)]
    return [
        GenerationRequest(
            prompt_ids=prompter.render(task.messages, task.tools).token_ids,
            num_completions=num_completions,
            sampling=sampling,
            seed=seed + number,
        )
        for number, task in enumerate(tasks)
    ]


def prompt_item(row: TaskCreate, *, num_rollouts: int = 4, entry: int = 0) -> PromptItem:
    """A task as it comes in a prompt batch."""
    task = Task(
        id=task_id(row),
        ordinal=0,
        messages=row.messages,
        tools=row.tools,
        reference=row.reference,
        subtasks=row.subtasks,
        source=row.source,
        split=Split.TRAIN,
        metadata={},
    )
    return PromptItem(
        task=task,
        num_rollouts=num_rollouts,
        scaffold=Scaffold(),
        lane="uniform",
        arm=Arm.CONTROL,
        weight=1.0,
        slot_probability=0.1,
        entry=entry,
    )


def publish(
    model_dir: Path,
    out: Path,
    *,
    version: int,
    change: Change | None = None,
    parity_offset: float = 0.0,
) -> Path:
    """Publish changed weights with honest probes, as the trainer does; returns the folder.

    `parity_offset` is added to the probes' log-probabilities, to make them dishonest.
    """
    with LOADING:
        model = AutoModelForCausalLM.from_pretrained(model_dir)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if change is not None:
                change(name, weight)
    probe = list(range(5, 45))
    with torch.inference_mode():
        logits_TV = model(torch.tensor([probe])).logits[0, :-1]
    logprobs_T = torch.log_softmax(logits_TV, -1).gather(1, torch.tensor(probe[1:])[:, None])
    unfinished = out.with_name(f".{out.name}")
    model.save_pretrained(unfinished)
    AutoTokenizer.from_pretrained(model_dir).save_pretrained(unfinished)
    parity = {
        "policy_version": version,
        "token_ids": [probe],
        "logprobs": [(logprobs_T[:, 0] + parity_offset).tolist()],
    }
    (unfinished / "parity.json").write_text(json.dumps(parity), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    return out


def shift(part: str, *, seed: int = 0) -> Change:
    """Noise of a tenth of a weight's spread on every weight whose name holds `part`."""
    generator = torch.Generator().manual_seed(seed)

    def change(name: str, weight: torch.Tensor) -> None:
        if part in name:
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.02 + 0.1 * weight.std() * noise)

    return change
