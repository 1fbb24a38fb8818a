"""One script for a machine with CUDA: steps, weight publishing, a learning curve.

    .venv/bin/python tests/bench/gpu.py --out gpu.json
    .venv/bin/python tests/bench/gpu.py --parts step --within 9 --out step.json
    .venv/bin/python tests/bench/gpu.py --device cpu --tiny --minutes 1     # tries the script

| part | what |
|---|---|
| `step` | GRPO steps by layout and precision: tokens a second, share of the peak (MFU), memory |
| `publish` | seconds to write a version, and for an engine to take it, by channel |
| `curve` | GRPO on BFCL tasks by the demo's own runner: reward by step |

Models are SmolLM2-135M (`etude-rollout models fetch-smollm2`) and a Llama of 1.2 billion random
parameters made on the spot; with `--tiny` two tiny ones. MFU is `throughput.py`'s: the model's own
operations over seconds and the device's dense bfloat16 peak (`--peak-flops` where the table has no
such device). What cannot run is named with the reason, and so is what there was no time for:
nothing is begun after `--within` minutes. The JSON object is written anew after every piece, so
that a command that is cut off leaves what it had. Prints a table and that object.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_curve import learning_curve
from gpu_models import Places, models
from gpu_publish import publish_times
from gpu_step import VARIANTS, measure_steps

from etude_trainer.throughput import peak_flops

PARTS = ("step", "publish", "curve")
Row = Mapping[str, object]


@dataclass(slots=True)
class Report:
    """What was measured, and what was not."""

    rows: dict[str, list[Row]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Name of a part -> why it did not run."""
    keep: Callable[[Report], None] = lambda _report: None
    """Called after every piece."""
    until_s: float = math.inf
    """On the monotonic clock: no piece begins later."""

    def attempt(self, part: str, name: str, work: Callable[[], Iterable[Row]]) -> None:
        """Run a piece of a part; a piece that cannot run is named, and the others go on."""
        print(f"{name} ...", file=sys.stderr, flush=True)
        if time.monotonic() > self.until_s:
            self.skip(name, "no time left (--within)")
            return
        try:
            for row in work():
                self.rows.setdefault(part, []).append(row)
        except Exception as error:  # the machine's limits are this script's subject
            lines = str(error).strip().splitlines() or [""]
            self.skip(name, f"{type(error).__name__}: {lines[0]}")
        else:
            self.keep(self)

    def skip(self, name: str, reason: str) -> None:
        """Name what did not run."""
        self.skipped[name] = reason
        print(f"{name}: {reason}", file=sys.stderr, flush=True)
        self.keep(self)


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models, small batches")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas between")
    parser.add_argument("--smollm2", type=Path, default=Path(".etude/models/smollm2-135m-instruct"))
    parser.add_argument("--vllm-python", type=Path, default=Path(".venv-vllm/bin/python"))
    parser.add_argument("--steps", type=int, default=3, help="measured steps of a variant")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the learning curve")
    parser.add_argument(
        "--within", type=float, default=math.inf, help="minutes; begin nothing after"
    )
    parser.add_argument("--peak-flops", type=float, help="of the device, dense bfloat16")
    parser.add_argument("--out", type=Path, help="also write the JSON object here")
    given = parser.parse_args(arguments)
    unknown = set(given.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--parts: {', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    return given


def measure(given: argparse.Namespace, folder: Path) -> Report:
    """Every part that was asked for."""
    report = Report(keep=partial(write, given), until_s=time.monotonic() + 60.0 * given.within)
    parts = given.parts.split(",")
    places = Places(folder, given.smollm2)
    peak = given.peak_flops or peak_flops(device_name(given.device))
    for model in models(places, tiny=given.tiny) if {"step", "publish"} & {*parts} else ():
        if model.missing is not None:
            report.skip(model.name, model.missing)
            continue
        for variant in VARIANTS if "step" in parts else ():
            name = f"step {model.name} {variant.name}"
            report.attempt(
                "step",
                name,
                partial(
                    measure_steps,
                    model,
                    variant,
                    device=given.device,
                    steps=given.steps,
                    peak=peak,
                ),
            )
        if "publish" in parts:
            report.attempt(
                "publish",
                f"publish {model.name}",
                partial(
                    publish_times,
                    model,
                    folder,
                    device=given.device,
                    vllm_python=given.vllm_python,
                ),
            )
    if "curve" in parts:
        engine = "transformers" if given.device == "cpu" else "vllm"
        policy = "tiny" if given.tiny else "small"
        report.attempt(
            "curve",
            f"curve {policy}",
            partial(learning_curve, policy=policy, engine=engine, minutes=given.minutes),
        )
    return report


def device_name(device: str) -> str:
    """What the device calls itself."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "cpu"


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, a column a key of the first."""
    keys = list(rows[0])
    lines = [" | ".join(keys), " | ".join("---" for _ in keys)]
    lines += [" | ".join(_cell(row.get(key)) for key in keys) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def document(given: argparse.Namespace, report: Report) -> dict[str, object]:
    """The JSON object."""
    return {
        "device": device_name(given.device),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "tiny": given.tiny,
        **report.rows,
        "not_run": report.skipped,
    }


def write(given: argparse.Namespace, report: Report) -> None:
    """What there is so far, where `--out` says."""
    if given.out is not None:
        text = json.dumps(document(given, report), indent=1)
        given.out.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    given = options()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device here; --device cpu --tiny tries the script")
    with tempfile.TemporaryDirectory(prefix="etude-gpu-") as folder:
        report = measure(given, Path(folder))
    for part, rows in report.rows.items():
        print(f"\n{part}\n\n{table(rows)}")
    for name, reason in report.skipped.items():
        print(f"not run: {name}: {reason}")
    print(json.dumps(document(given, report)))
    write(given, report)


if __name__ == "__main__":
    main()
