"""Steps of `gpu.py`: our `learn()` on made-up batches, timed, by layout and precision."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass

import torch
from gpu_models import Model
from step_sides import peak_mib, reset_peak
from step_work import make_work

from etude_trainer.config import parse_config
from etude_trainer.service import build_learner
from etude_trainer.stages.learn import learn
from etude_trainer.throughput import per_second, utilisation

NUM_WARM = 2
"""Steps before the measured ones: compilation, moments of AdamW, caches."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute a step."""

    name: str
    config: str
    """TOML, from inside the `[model]` table on."""


VARIANTS = (
    Variant("float32, rows", 'autocast = "none"\nattention = "rows"'),
    Variant("bfloat16, rows", 'autocast = "bfloat16"\nattention = "rows"'),
    Variant("bfloat16, lines", 'autocast = "bfloat16"\nattention = "lines"'),
    Variant(
        "bfloat16, lines, head too",
        'autocast = "bfloat16"\nattention = "lines"\nhead_float32 = false',
    ),
    Variant(
        "bfloat16, lines, checkpointing",
        'autocast = "bfloat16"\nattention = "lines"\ngradient_checkpointing = true',
    ),
    Variant(
        "bfloat16, lines, LoRA",
        'autocast = "bfloat16"\nattention = "lines"\n[lora]\nrank = 8\nbase = "bfloat16"',
    ),
)


def measure_steps(
    model: Model, variant: Variant, *, device: str, steps: int, peak: float | None
) -> list[dict[str, object]]:
    """One row: means over the measured steps; seconds with their deviation.

    Operations are those of training every weight: under LoRA, where frozen ones need no gradient,
    `tflops` and `mfu` are too high by up to a half.
    """
    config = parse_config(
        f"[objective]\nimportance_cap = 0.0\nentropy_coef = 0.0\n"
        f"[batch]\nmini_batch_groups = 0\nmicro_batch_tokens = {model.micro_batch_tokens}\n"
        f"[model]\n{variant.config}\n"
    )
    learner = build_learner(model.directory, config, device=device)
    groups = make_work(model.batch, vocab_size=learner.policy.vocab_size).groups()
    cuda = device == "cuda"
    seconds: list[float] = []
    metrics: dict[str, float] = {}
    for number in range(NUM_WARM + steps):
        if number == NUM_WARM:
            reset_peak(cuda)
        began = time.perf_counter()
        metrics = learn(learner, groups, step=0, progress=lambda _done, _total: None)
        if cuda:
            torch.cuda.synchronize()
        if number >= NUM_WARM:
            seconds.append(time.perf_counter() - began)
    peak_memory = peak_mib(cuda)
    trained = sum(p.numel() for p in learner.policy.parameters())
    del learner
    gc.collect()
    if cuda:
        torch.cuda.empty_cache()
    mean_s = statistics.mean(seconds)
    share = utilisation(metrics["flops"], seconds=mean_s, peak=peak)
    row: dict[str, object] = {
        "model": model.name,
        "trained_parameters": trained,
        "variant": variant.name,
        "seconds": mean_s,
        "seconds_std": statistics.stdev(seconds) if len(seconds) > 1 else 0.0,
        "tokens_per_s": per_second(metrics["num_tokens"], mean_s),
        "tokens_computed_per_s": per_second(metrics["num_tokens_computed"], mean_s),
        "padding_share": metrics["padding_share"],
        "tflops": per_second(metrics["flops"], mean_s) / 1e12,
        "mfu": share if peak is not None else None,
        "peak_mib": peak_memory,
        "grad_norm": metrics["grad_norm"],
    }
    return [row]
