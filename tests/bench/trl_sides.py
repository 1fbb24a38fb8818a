"""The curriculum in TRL beside TRL's own shuffle: what a step costs, and what is learned.

    python tests/bench/trl_sides.py overhead [--pairs 5] [--steps 30]
    python tests/bench/trl_sides.py learning [--seeds 5] [--steps 150] [--presets dscl,uniform]

Both use the documented example's policy, rows and rewards (docs/examples/trl/train.py) and a real
sampler on servers of its own. `overhead` trains in alternating pairs and prints the median seconds
from one optimizer step to the next. `learning` trains each arm with the same seeds and the same
rollouts, and measures without chance: the mean probability that the policy gives the right answer,
over all thirty prompts, every ten steps. One JSON object, with 95 % intervals over pairs of seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from stack import machine, serving
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from etude_client.adapters.trl import add_curriculum

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "examples" / "trl" / "train.py"))
NUM_TASKS, GROUP_SIZE = 8, 16
EVERY = 10
STUDENT_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 8: 2.365, 10: 2.262}


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """When each optimizer step ended, and what the policy knew then."""

    def __init__(self, look: Callable[[], float] | None) -> None:
        self.ends_s: list[float] = []
        self.known: list[float] = []
        self._look = look

    def on_step_end(self, args: object, state: object, control: object, **more: object) -> None:
        self.ends_s.append(time.perf_counter())
        if self._look is not None and len(self.ends_s) % EVERY == 0:
            self.known.append(self._look())


@dataclass
class Pupil:
    """A fresh policy and what it is asked."""

    seed: int
    model: LlamaForCausalLM = field(init=False)
    tokenizer: PreTrainedTokenizerFast = field(init=False)

    def __post_init__(self) -> None:
        self.model, self.tokenizer = EXAMPLE["make_policy"](self.seed)

    def knows(self) -> float:
        """Mean probability of the right answer over all prompts, in [0, 1]."""
        rows = EXAMPLE["make_rows"]()
        asked = self.tokenizer(list(rows["prompt"]), return_tensors="pt")
        right_B = torch.tensor(
            [self.tokenizer.convert_tokens_to_ids(one) for one in rows["answer"]]
        )
        with torch.no_grad():
            logits_BV = self.model(asked["input_ids"]).logits[:, -1, :]
        chances_BV = logits_BV.float().softmax(-1)
        return float(chances_BV.gather(1, right_B[:, None]).mean())


def train(
    pupil: Pupil, folder: Path, *, steps: int, preset: str | None, url: str, looks: bool
) -> Clock:
    """One run; `preset` None: TRL's own shuffle."""
    trainer = GRPOTrainer(
        model=pupil.model,
        processing_class=pupil.tokenizer,
        reward_funcs=[EXAMPLE["is_digit"], EXAMPLE["is_right"]],
        train_dataset=EXAMPLE["make_rows"](),
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=NUM_TASKS * GROUP_SIZE,
            num_generations=GROUP_SIZE,
            max_completion_length=1,
            learning_rate=2e-3,
            lr_scheduler_type="constant",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            report_to="none",
            use_cpu=True,
            seed=pupil.seed,
        ),
    )
    clock = Clock(pupil.knows if looks else None)
    curriculum = None
    if preset is not None:
        curriculum = add_curriculum(trainer, folder.name, url, preset=preset, source="skill")
    trainer.add_callback(clock)
    trainer.train()
    if curriculum is not None:
        curriculum.close()
    return clock


def step_ms(clock: Clock) -> float:
    """Median milliseconds between the ends of two steps, the first three left out."""
    ends_s = clock.ends_s[3:]
    return 1e3 * statistics.median(b - a for a, b in itertools.pairwise(ends_s))


def overhead(url: str, folder: Path, *, pairs: int, steps: int) -> dict[str, object]:
    """Step times in alternating pairs."""
    plain: list[float] = []
    with_curriculum: list[float] = []
    for number in range(pairs):
        sides = [(None, plain), ("dscl", with_curriculum)]
        for preset, times in sides if number % 2 == 0 else reversed(sides):
            place = folder / f"overhead-{number}-{preset}"
            clock = train(Pupil(number), place, steps=steps, preset=preset, url=url, looks=False)
            times.append(step_ms(clock))
        print(f"pair {number}: {plain[-1]:.1f} {with_curriculum[-1]:.1f} ms", file=sys.stderr)
    gaps = [b - a for a, b in zip(plain, with_curriculum, strict=True)]
    return {
        "plain_ms": statistics.median(plain),
        "curriculum_ms": statistics.median(with_curriculum),
        "added_ms": statistics.median(gaps),
        "added_share": statistics.median(gap / a for gap, a in zip(gaps, plain, strict=True)),
        "pairs_ms": list(zip(plain, with_curriculum, strict=True)),
    }


def interval(values: list[float]) -> dict[str, float]:
    """Mean and half width of its 95 % interval (Student's t)."""
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {
        "mean": statistics.mean(values),
        "ci95": STUDENT_975.get(len(values), 1.96) * spread,
    }


def learning(
    url: str, folder: Path, *, seeds: int, steps: int, presets: list[str]
) -> dict[str, object]:
    """Area under the curve of what is known, and the end of it, of every arm."""
    areas: dict[str, list[float]] = {}
    finals: dict[str, list[float]] = {}
    arms: Mapping[str, str | None] = {"trl": None, **{name: name for name in presets}}
    for seed in range(1, seeds + 1):
        for name, preset in arms.items():
            place = folder / f"learning-{seed}-{name}"
            clock = train(Pupil(seed), place, steps=steps, preset=preset, url=url, looks=True)
            areas.setdefault(name, []).append(statistics.mean(clock.known))
            finals.setdefault(name, []).append(clock.known[-1])
            print(f"seed {seed} {name}: {areas[name][-1]:.3f}", file=sys.stderr)
    first = areas["trl"]
    return {
        name: {
            "area": interval(areas[name]),
            "final": interval(finals[name]),
            "area_less_trl": interval([a - b for a, b in zip(areas[name], first, strict=True)]),
        }
        for name in arms
    }


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["overhead", "learning"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--presets", default="dscl,etude,uniform")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, serving(1) as stack:
        folder = Path(name)
        if args.what == "overhead":
            result = overhead(stack.url, folder, pairs=args.pairs, steps=args.steps)
        else:
            presets = args.presets.split(",")
            result = learning(
                stack.url, folder, seeds=args.seeds, steps=args.steps, presets=presets
            )
    print(json.dumps({"machine": machine(), args.what: result}, indent=1))


if __name__ == "__main__":
    main()
