"""One training step of ours and one of TRL's `GRPOTrainer`, each measured in a process of its own.

A side builds its model, makes one small step (moments of AdamW, first-use costs), then the step
that counts: forward, backward, gradient clip, optimizer. Generation is outside on both sides.
Called by `trainer_vs_trl.py`.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from step_work import Shape, Work, make_work
from torch import Tensor

WARM = Shape(num_groups=1, group_size=2, prompt=(4, 4), completion=(3, 3))
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """What both sides are told."""

    model: str
    shape: Shape
    loss: str
    """`dapo` (mean over tokens) or `grpo` (mean over sequences of their token means)."""
    bfloat16: bool
    checkpointing: bool
    rows: int
    """Sequences of a micro-batch of TRL's; one of ours takes as many tokens, padding included."""
    share_prompts: bool
    device: str
    threads: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One step."""

    seconds: float
    cpu_seconds: float
    """Processor time of all threads: steadier than the clock beside other work."""
    peak_mib: float
    """Most memory during the step, above what was held before it."""
    held_mib: float
    """Held before the step: weights, moments, libraries."""
    loss: float
    grad_norm: float


Step = Callable[[Work], tuple[float, float]]
"""A whole training step; returns loss and gradient norm before clipping."""


def padded_tokens(work: Work, rows: int) -> int:
    """Tokens of the largest micro-batch when prompts are padded on the left and completions on
    the right, as TRL does over the whole batch."""
    width = max(map(len, work.prompts)) + max(map(len, work.completions))
    return min(rows, len(work.prompts)) * width


def measure(side: str, setting: Setting) -> dict[str, float]:
    """Build a side, warm it up, and measure one step."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    from transformers import AutoConfig

    vocab_size = int(AutoConfig.from_pretrained(setting.model).vocab_size)
    work = make_work(setting.shape, vocab_size=vocab_size)
    step = (_ours if side == "ours" else _theirs)(setting, work)
    step(make_work(WARM, vocab_size=vocab_size))
    cuda = setting.device == "cuda"
    held = reset_peak(cuda)
    began, cpu = time.perf_counter(), time.process_time()
    loss, grad_norm = step(work)
    if cuda:
        torch.cuda.synchronize()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_mib(cuda)
    return asdict(Measured(seconds, cpu_seconds, peak - held, held, loss, grad_norm))


def reset_peak(cuda: bool) -> float:
    """Forget the high-water mark; returns what is held now, in MiB."""
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / MIB
    ctypes.CDLL(None).malloc_trim(0)  # what loading has freed is not held
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status_mib("VmRSS")


def peak_mib(cuda: bool) -> float:
    """The high-water mark since `reset_peak`, in MiB."""
    return torch.cuda.max_memory_allocated() / MIB if cuda else _status_mib("VmHWM")


def _status_mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise OSError(f"this system does not tell {name}")


def _ours(setting: Setting, work: Work) -> Step:
    from etude_trainer.config import parse_config
    from etude_trainer.service import build_learner
    from etude_trainer.stages.learn import learn

    aggregation = {"dapo": "token_mean", "grpo": "sequence_mean"}[setting.loss]
    config = parse_config(
        f"""
        [objective]
        aggregation = "{aggregation}"
        importance_cap = 0.0
        entropy_coef = 0.0
        [batch]
        mini_batch_groups = 0
        micro_batch_tokens = {max(64, padded_tokens(work, setting.rows))}
        share_prompts = {str(setting.share_prompts).lower()}
        [model]
        autocast = "{"bfloat16" if setting.bfloat16 else "none"}"
        head_float32 = {str(not setting.bfloat16).lower()}
        gradient_checkpointing = {str(setting.checkpointing).lower()}
        """
    )
    learner = build_learner(Path(setting.model), config, device=setting.device)

    def step(batch: Work) -> tuple[float, float]:
        metrics = learn(learner, batch.groups(), step=0, progress=lambda _done, _total: None)
        return metrics["loss"], metrics["grad_norm"]

    return step


def _theirs(setting: Setting, work: Work) -> Step:
    from datasets import Dataset  # type: ignore[import-untyped]
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    model = AutoModelForCausalLM.from_pretrained(setting.model, dtype=torch.float32)
    arguments = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="etude-trl-"),
        use_cpu=setting.device == "cpu",
        bf16=setting.bfloat16,
        loss_type=setting.loss,
        per_device_train_batch_size=setting.rows,
        num_generations=setting.shape.group_size,
        generation_batch_size=len(work.prompts),
        gradient_checkpointing=setting.checkpointing,
        beta=0.0,
        epsilon=0.2,
        learning_rate=1e-6,
        weight_decay=0.01,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "x"}] * len(work.prompts)),
        processing_class=AutoTokenizer.from_pretrained(setting.model),
    )
    optimizer = trainer.create_optimizer()
    trainer.model.train()
    device = torch.device(setting.device)

    def step(batch: Work) -> tuple[float, float]:
        starts = range(0, len(batch.prompts), setting.rows)
        trainer.current_gradient_accumulation_steps = len(starts)
        trainer.args.steps_per_generation = len(starts)
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for first in starts:
            inputs = _inputs(batch, slice(first, first + setting.rows), device)
            loss = trainer.compute_loss(trainer.model, inputs)
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), arguments.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total, float(norm)

    return step


def _inputs(batch: Work, part: slice, device: torch.device) -> dict[str, Tensor]:
    """Prepared inputs: prompts on the left, completions on the right, padded over the batch."""
    prompt_ids, prompt_mask = _pad(batch.prompts, left=True)
    completion_ids, completion_mask = _pad(batch.completions, left=False)
    inputs = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": torch.tensor(batch.advantages),
    }
    own = {name: tensor[part].to(device) for name, tensor in inputs.items()}
    return {**own, "num_items_in_batch": torch.tensor(float(batch.num_trained), device=device)}


def _pad(rows: list[list[int]], *, left: bool) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.zeros((len(rows), width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[number, place] = torch.tensor(row)
        mask[number, place] = 1
    return ids, mask
