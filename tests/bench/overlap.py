"""What overlapping steps save: the same run trained with `[overlap]` off and on, in turns.

    .venv/bin/python tests/bench/overlap.py [--hidden 256] [--layers 4] [--steps 6] [--minutes 4]

A real sampler, the real trainer, a random-weight model made on the spot; all groups are rolled out
before the trainer starts, so that it never waits for one: what is left is its own waiting. Runs
come in pairs, off first in every other one, until the time is up: a pair that was begun is
finished. Prints a table of pairs and one JSON object: seconds a step, share of the step that was
not training, staleness.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from stack import machine, serving
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1]))

from etude_client import EtudeClient
from etude_proto.v1 import CurriculumConfig, DatasetCreate, RunCreate, RunLimits
from etude_trainer.config import parse_config
from etude_trainer.service import Job, TrainerService
from etude_trainer.settings import Settings
from support.tiny_worker import TRAINING_GROUPS, TinyWorker
from support.waiting import wait_for
from support.workload import lines, task

CONFIG = "[optimizer]\nlr = 1e-4\n[batch]\nwait_s = 0.5\n[overlap]\nenabled = {overlaps}\n"


def make_model(folder: Path, *, hidden: int, layers: int) -> int:
    """A random Llama; returns its parameters."""
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def train(url: str, folder: Path, *, name: str, overlaps: bool, num_steps: int) -> dict[str, float]:
    """One run, from its first batch to its last ack."""
    with EtudeClient(url) as client:
        dataset = client.create_dataset(DatasetCreate(name=name))
        tasks = [task(number, subtasks=("format",)) for number in range(num_steps * 8)]
        client.import_tasks(dataset.id, lines(tasks).splitlines())
        limits = RunLimits(
            training_batch_groups=TRAINING_GROUPS,
            cap_groups=2 * TRAINING_GROUPS * num_steps,
            max_staleness=2 * num_steps,
            max_group_bytes=1 << 20,
        )
        run = client.create_run(
            RunCreate(
                name=name,
                dataset_id=dataset.id,
                curriculum=CurriculumConfig(preset="uniform"),
                group_size=6,
                limits=limits,
            )
        )
        worker = TinyWorker(client, run.id, folder / "model")
        for _ in range(num_steps):
            worker.fill()
        settings = Settings(
            sampler_url=url,
            weights_root=folder / name / "weights",
            trainer_dir=folder / name / "trainer",
            trainer_device="cpu",
            trainer_threads=1,
        )
        config = parse_config(CONFIG.format(overlaps=str(overlaps).lower()))
        job = Job(run=run.id, model_dir=folder / "model", max_steps=num_steps)
        service = TrainerService(settings, config, job=job)
        service.start()
        wait_for(lambda: not service.is_alive, what=f"{num_steps} steps", timeout_s=1200)
        if service.error is not None:
            raise service.error
    text = (folder / name / "trainer" / run.id / "metrics.jsonl").read_text("utf-8")
    steps = [json.loads(line) for line in text.splitlines()][1:]  # the first one warms up
    times = [step["time_unix_s"] for step in steps]
    metrics = [step["metrics"] for step in steps]
    return {
        "seconds_step": (times[-1] - times[0]) / (len(times) - 1),
        "seconds_train": statistics.mean(one["seconds_train"] for one in metrics),
        "wait_share": statistics.mean(one["wait_share"] for one in metrics[1:]),
        "staleness_last": metrics[-1]["staleness_mean"],
        **{
            f"seconds_{stage}": statistics.mean(step["seconds"].get(stage, 0.0) for step in steps)
            for stage in ("checkpoint", "publish", "ack")
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=4.0, help="no pair is begun after these")
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"off": [], "on": []}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="etude-overlap-") as name:
        folder = Path(name)
        size = make_model(folder / "model", hidden=given.hidden, layers=given.layers)
        with serving(1) as stack:
            while not found["on"] or time.monotonic() - began < 60.0 * given.minutes:
                number = len(found["on"])
                for mode in ("off", "on") if number % 2 == 0 else ("on", "off"):
                    result = train(
                        stack.url,
                        folder,
                        name=f"{mode}-{number}",
                        overlaps=mode == "on",
                        num_steps=given.steps,
                    )
                    found[mode].append(result)
    print(table(found))
    facts = {"machine": machine(), "load": os.getloadavg()[1], "parameters": size}
    print(json.dumps({**facts, "steps": given.steps, **found}))


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Medians of both modes, and the ratio on over off pair by pair with its range."""
    lines = ["| | off | on | ratio by pair |", "|---|---|---|---|"]
    for key in found["off"][0]:
        off, on = ([run[key] for run in found[mode]] for mode in ("off", "on"))
        cells = [f"{statistics.median(values):.3g}" for values in (off, on)]
        ratios = [b / a for a, b in zip(off, on, strict=True) if a > 0.0]
        middle = f"{statistics.median(ratios):.2f}" if ratios else "-"
        span = f" ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
        lines.append(f"| `{key}` | {cells[0]} | {cells[1]} | {middle}{span} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
