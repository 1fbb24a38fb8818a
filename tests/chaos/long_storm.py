"""The long form of the chaos suite: `make chaos-long FAULTS=1000 SEED=1 EVERY=0.5`.

Prints the timeline, one table and where the JSON lies; ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from support.storm import Outcome, Size, ride
from support.storm_gremlin import plan


def table(outcome: Outcome) -> str:
    """The outcome for people."""
    rows = [("seed", str(outcome.seed)), ("seconds", f"{outcome.seconds:.0f}")]
    rows.append(("faults", str(outcome.struck.total())))
    rows += [(f"  {name}", str(num)) for name, num in sorted(outcome.struck.items())]
    rows += [(name, str(num)) for name, num in sorted(outcome.findings.figures.items())]
    rows += [(name, str(num)) for name, num in sorted(outcome.answers.items())]
    for kind in ("lost", "counted twice"):
        rows.append((kind.upper(), str(len(outcome.findings.wrong[kind]))))
    rows += [(f"WRONG: {name}", str(len(all_))) for name, all_ in outcome.findings.wrong.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)


def as_json(outcome: Outcome) -> dict[str, object]:
    """The outcome for programs."""
    return {
        "seed": outcome.seed,
        "seconds": outcome.seconds,
        "faults": outcome.struck,
        "answers": outcome.answers,
        "figures": outcome.findings.figures,
        "wrong": outcome.findings.wrong,
    }


def main() -> int:
    """Ride one storm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="of the timeline and all clients")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between faults, mean")
    parser.add_argument("--seconds", type=float, default=0.0, help="instead of --every: in all")
    parser.add_argument("--workers", type=int, default=24, help="rollout workers")
    parser.add_argument("--replicas", type=int, default=3, help="sampler replicas")
    parser.add_argument("--out", type=Path, default=Path(".reports/chaos.json"), help="the JSON")
    options = parser.parse_args()
    every_s = options.seconds / options.faults if options.seconds else options.every
    faults = plan(options.seed, options.faults, every_s=every_s)
    size = Size(num_replicas=options.replicas, num_workers=options.workers)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:7.1f}] {text}", flush=True)

    outcome = asyncio.run(ride(size, faults, seed=options.seed, say=say))
    print(table(outcome))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(as_json(outcome), indent=1), "utf-8")
    for kind, found in outcome.findings.wrong.items():
        for text in found[:5]:
            print(f"WRONG ({kind}): {text}")
    print(f"figures: {options.out}")
    return 1 if outcome.num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
