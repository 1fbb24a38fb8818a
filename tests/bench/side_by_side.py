"""Lease and report of this tree beside those of another revision, in alternating pairs of runs.

    .venv/bin/python tests/bench/side_by_side.py [--rev 1bf5467] [--pairs 6] [--seconds 5]

Both trees serve at the same time, each on servers of its own (PostgreSQL with fsync, Valkey with
AOF everysec), filled alike; the load goes to one of them at a time, A B A B, so that a machine that
gets slower for a while slows both. The other revision is checked out into a temporary folder and
runs with the packages of this environment. Ratios are this tree over the other one, pair by pair:
the median, and the spread from the lowest to the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stack import fill, machine, serving, wrk

ROOT = Path(__file__).resolve().parents[2]
MEASURES = ("pairs_per_s", "lease_p50_ms", "lease_p99_ms", "report_p50_ms", "report_p99_ms")
Measured = dict[str, float]


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree that serves in a child process."""

    name: str
    child: subprocess.Popen[str]

    def measure(self, seconds: int) -> Measured:
        """One load run."""
        assert self.child.stdin is not None
        self.child.stdin.write(f"{seconds}\n")
        self.child.stdin.flush()
        return self.answer()

    def answer(self) -> Measured:
        """The next line of JSON.

        Raises:
            SystemExit: the child has ended.
        """
        assert self.child.stdout is not None
        for line in self.child.stdout:
            if line.startswith("{"):
                found: Measured = json.loads(line)
                return found
        raise SystemExit(f"the sampler of {self.name} ended; see above")


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A revision in a temporary folder, which is removed again."""
    with tempfile.TemporaryDirectory(prefix="etude-side-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


@contextmanager
def served(name: str, tree: Path, options: argparse.Namespace) -> Iterator[Tree]:
    """A tree's sampler, filled and warm."""
    path = os.pathsep.join(str(tree / part) for part in ("services/sampler", "proto"))
    command = [sys.executable, __file__, "--child", "--tasks", str(options.tasks)]
    command += ["--clients", str(options.clients), "--workers", str(options.workers)]
    child = subprocess.Popen(
        [*command, "--batch", str(options.batch), "--task-bytes", str(options.task_bytes)],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    made = Tree(name, child)
    try:
        where = made.answer()
        print(f"{name}: {where}", flush=True)
        yield made
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(60)


def be_child(options: argparse.Namespace) -> None:
    """Serve the tree that is on the path; one load run for each line that is read."""
    import etude_sampler

    with serving(options.workers) as stack:
        run = fill(stack, options.tasks, task_bytes=options.task_bytes)
        load = {"clients": options.clients, "batch": options.batch}
        wrk(stack, run, mode="pairs", seconds=3, **load)
        print(json.dumps({"serves": str(Path(etude_sampler.__file__).parent)}), flush=True)
        for line in sys.stdin:
            found = wrk(stack, run, mode="pairs", seconds=int(line), **load)
            told = {
                "pairs_per_s": found.report.n / found.seconds,
                **{
                    f"{kind}_{name}": value
                    for kind in ("lease", "report")
                    for name, value in asdict(getattr(found, kind)).items()
                },
                "failed": found.failed,
            }
            print(json.dumps(told), flush=True)


def ratios(pairs: list[tuple[Measured, Measured]]) -> dict[str, dict[str, float]]:
    """This tree over the other, for each measure: median, lowest, highest."""
    found = {}
    for name in MEASURES:
        each = sorted(ours[name] / theirs[name] for ours, theirs in pairs)
        found[name] = {
            "median": round(statistics.median(each), 3),
            "lowest": round(each[0], 3),
            "highest": round(each[-1], 3),
            "ours": round(statistics.median(ours[name] for ours, _ in pairs), 2),
            "theirs": round(statistics.median(theirs[name] for _, theirs in pairs), 2),
        }
    return found


def main() -> None:
    """Measure both trees and print the ratios; exit code 1 if a median is over the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rev", default="1bf5467")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--task-bytes", type=int, default=2000)
    parser.add_argument("--bar", type=float, default=1.5, help="Largest ratio of a latency.")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        be_child(options)
        return
    print(f"machine: {machine()}, load {os.getloadavg()[0]:.1f} before", flush=True)
    pairs: list[tuple[Measured, Measured]] = []
    with ExitStack() as scope:
        other = scope.enter_context(checked_out(options.rev))
        theirs = scope.enter_context(served(options.rev, other, options))
        ours = scope.enter_context(served("this tree", ROOT, options))
        for number in range(options.pairs):
            first, second = (ours, theirs) if number % 2 else (theirs, ours)
            one, two = first.measure(options.seconds), second.measure(options.seconds)
            pairs.append((one, two) if first is ours else (two, one))
            print(json.dumps({"ours": pairs[-1][0], "theirs": pairs[-1][1]}), flush=True)
    found = ratios(pairs)
    for name, row in found.items():
        print(
            f"{name:>14}: {row['median']:.2f} ({row['lowest']:.2f} to {row['highest']:.2f}); "
            f"this tree {row['ours']}, {options.rev} {row['theirs']}"
        )
    print(json.dumps({"machine": machine(), "options": vars(options), "ratios": found}))
    over = [name for name in MEASURES[1:] if found[name]["median"] > options.bar]
    if over:
        raise SystemExit(f"over {options.bar} times the latency of {options.rev}: {over}")


if __name__ == "__main__":
    main()
