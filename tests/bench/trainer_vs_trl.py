"""A training step of ours beside one of TRL's GRPOTrainer: time and memory, in alternating pairs.

    .venv/bin/etude-rollout models fetch-smollm2
    .venv/bin/python tests/bench/trainer_vs_trl.py --pairs 5
    .venv/bin/python tests/bench/trainer_vs_trl.py --pairs 5 --bf16 --loss grpo
    .venv/bin/python tests/bench/trainer_vs_trl.py --pairs 5 --even --no-sharing

Every step runs in a fresh process, ours and theirs by turns, on the same model, prompts,
completions, advantages and loss, with the same number of threads; loss and gradient norm of both
must agree. `--even` makes all sequences equally long, and with `--no-sharing` nothing is left for
our layout to save: what remains is the computation itself. `--out` collects pairs over several
calls, for a machine that has little time to give. Exit code 1 if they disagree, or if ours is
slower or larger by median.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from stack import machine
from step_sides import Setting, measure
from step_work import Shape, make_work

SIDES = ("ours", "trl")
TOLERANCE = {False: 1e-3, True: 2e-2}
"""Relative difference of loss and gradient norm: in float32, in bfloat16."""
Steps = dict[str, list[dict[str, float]]]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=".etude/models/smollm2-135m-instruct")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--loss", choices=["dapo", "grpo"], default="dapo")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast, also of the head")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--group-size", type=int, default=4)
    parser.add_argument("--prompt", default="24,64", help="shortest and longest, in tokens")
    parser.add_argument("--completion", default="12,48", help="shortest and longest, in tokens")
    parser.add_argument("--even", action="store_true", help="every sequence at its longest")
    parser.add_argument("--no-sharing", action="store_true", help="compute every prompt")
    parser.add_argument("--rows", type=int, default=8, help="sequences of a micro-batch")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="pairs are added here; those of it count, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def setting_of(given: argparse.Namespace) -> Setting:
    """What both sides are told."""
    prompt, completion = (
        tuple(int(part) for part in text.split(",")) for text in (given.prompt, given.completion)
    )
    shortest = -1 if given.even else 0
    shape = Shape(
        num_groups=given.groups,
        group_size=given.group_size,
        prompt=(prompt[shortest], prompt[1]),
        completion=(completion[shortest], completion[1]),
    )
    return Setting(
        model=given.model,
        shape=shape,
        loss=given.loss,
        bfloat16=given.bf16,
        checkpointing=given.checkpointing,
        rows=given.rows,
        share_prompts=not given.no_sharing,
        device=given.device,
        threads=given.threads,
    )


def in_child(side: str, arguments: list[str], threads: int) -> dict[str, float]:
    """One measured step in a fresh process."""
    variables = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    variables |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--child", side],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith('{"seconds"'))
    found: dict[str, float] = json.loads(line)
    return found


def earlier(path: Path | None, setting: Setting) -> Steps:
    """Pairs of this setting that a file holds already."""
    steps: Steps = {side: [] for side in SIDES}
    if path is None or not path.is_file():
        return steps
    told = json.loads(json.dumps(asdict(setting)))
    for line in path.read_text("utf-8").splitlines():
        found = json.loads(line)
        for side in SIDES if found["setting"] == told else ():
            steps[side].append(found["pair"][side])
    return steps


def disagreement(steps: Steps) -> dict[str, float]:
    """Relative difference of loss and gradient norm, the largest of any pair.

    A loss near 0 (normalised advantages cancel) is compared on the scale of an advantage.
    """
    found = {}
    for name, floor in (("loss", 0.1), ("grad_norm", 1e-6)):
        gaps = [
            abs(ours[name] - theirs[name]) / max(abs(theirs[name]), floor)
            for ours, theirs in zip(steps["ours"], steps["trl"], strict=True)
        ]
        found[name] = max(gaps)
    return found


def table(steps: Steps) -> str:
    """Mean and spread of each side, and ratios by pair."""
    lines = []
    for name in ("seconds", "cpu_seconds", "peak_mib", "held_mib", "loss", "grad_norm"):
        cells = []
        for side in SIDES:
            values = [step[name] for step in steps[side]]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            digits = 5 if name in ("loss", "grad_norm") else 1 if "mib" in name else 2
            cells.append(f"{side} {statistics.mean(values):.{digits}f} ± {spread:.{digits}f}")
        line = f"{name:>12}: {', '.join(cells)}"
        if name in ("seconds", "cpu_seconds", "peak_mib"):
            low, median, high = ratio(steps, name)
            line += f"; ours/trl {median:.2f} ({low:.2f} to {high:.2f})"
        lines.append(line)
    return "\n".join(lines)


def ratio(steps: Steps, name: str) -> tuple[float, float, float]:
    """Ours over TRL's by pair: lowest, median, highest."""
    pairs = zip(steps["ours"], steps["trl"], strict=True)
    values = sorted(ours[name] / theirs[name] for ours, theirs in pairs)
    return values[0], statistics.median(values), values[-1]


def main() -> None:
    """Measure pair by pair and compare."""
    given = options()
    setting = setting_of(given)
    if given.child:
        print(json.dumps(measure(given.child, setting)), flush=True)
        return
    if not (Path(given.model) / "config.json").is_file():
        raise SystemExit(f"{given.model} is no model: etude-rollout models fetch-smollm2")
    work = make_work(setting.shape, vocab_size=512)
    print(f"machine: {machine()}, load {os.getloadavg()[0]:.1f} before", flush=True)
    print(f"{json.dumps(asdict(setting))}; {work.num_tokens} tokens, {work.num_trained} trained")
    steps = earlier(given.out, setting)
    for _ in range(given.pairs):
        pair = {}
        for side in SIDES if len(steps["ours"]) % 2 else reversed(SIDES):
            pair[side] = in_child(side, sys.argv[1:], given.threads)
            print(side, json.dumps(pair[side]), flush=True)
        for side in SIDES:
            steps[side].append(pair[side])
        if given.out is not None:
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"setting": asdict(setting), "pair": pair}) + "\n")
    print(f"{len(steps['ours'])} pairs")
    print(table(steps))
    gaps = disagreement(steps)
    print(json.dumps({"setting": asdict(setting), "steps": steps, "disagreement": gaps}))
    if max(gaps.values()) > TOLERANCE[setting.bfloat16]:
        raise SystemExit(f"the two do not compute the same: {gaps}")
    worse = [name for name in ("cpu_seconds", "peak_mib") if ratio(steps, name)[1] > 1.0]
    if worse:
        raise SystemExit(f"ours is worse in {', '.join(worse)}")


if __name__ == "__main__":
    main()
