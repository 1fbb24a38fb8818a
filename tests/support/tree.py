"""The repository as the architecture tests see it: tracked files and our modules.

Files come from git, because a working copy also holds environments and run data; new files that are
not yet added count too, so that a rule bites before the commit.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {
    "etude_proto": ROOT / "proto",
    "etude_client": ROOT / "proto",
    "etude_sampler": ROOT / "services" / "sampler",
    "etude_rollout": ROOT / "services" / "rollout",
    "etude_trainer": ROOT / "services" / "trainer",
}
"""Each package and the folder that its name is imported from."""


def tracked_files(*suffixes: str) -> list[Path]:
    """Every file that git knows or would add, sorted; with suffixes, only such files."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    paths = [ROOT / name.decode() for name in listing.stdout.split(b"\0") if name]
    return sorted(
        path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)
    )


def module_names() -> list[str]:
    """Dotted names of all our modules, sorted."""
    names = []
    for package, folder in DISTRIBUTIONS.items():
        for path in tracked_files(".py"):
            if path.is_relative_to(folder / package):
                parts = path.relative_to(folder).with_suffix("").parts
                names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(names)
