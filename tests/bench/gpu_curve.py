"""The learning curve of `gpu.py`: a fresh run of the demo, and what its summary says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def learning_curve(*, policy: str, engine: str, minutes: float) -> list[dict[str, object]]:
    """Reward and success by step, of a fresh run.

    It works in the demo's data folder (ETUDE_DATA_DIR), where models that are made already are.

    Raises:
        RuntimeError: the demo failed, and its last line says why; or it came to no step.
    """
    variables = {"POLICY": policy, "ENGINE": engine, "MINUTES": str(minutes), "FRESH": "1"}
    done = subprocess.run(
        [sys.executable, "deploy/local/demo.py"],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"the demo ended with code {done.returncode}: {lines[-1]}")
    folder = ROOT / (os.environ.get("ETUDE_DATA_DIR") or ".etude") / "demo"
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    if not summary["steps"]:
        raise RuntimeError(f"no step in {minutes:g} minutes: give it more (--minutes)")
    return [
        {
            "model": summary["model"],
            "engine": summary["engine"],
            "step": step["policy_version"],
            "reward": step["reward"],
            "success": step["success"],
            "train_s": step["seconds"].get("train"),
        }
        for step in summary["steps"]
    ]
