"""What a rehearsal needs of a machine; whatever is missing is the reason to skip it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

TOOLS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "docker-init": "docker.io",
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
}
"""Program -> Debian's package of it."""
FREE_BYTES = 14 << 30
"""Bases, five images with torch twice, containers (measured: about 9 GiB)."""
COMPOSE = Path(sys.executable).parent / "docker-compose"


def missing(work: Path) -> str | None:
    """Why nothing can be rehearsed here; null when it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"needs Linux on x86_64, this is {platform.system()} on {platform.machine()}"
    if os.geteuid() != 0:
        return "needs root: an engine of its own in a network namespace of its own"
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if absent:
        packages = " ".join(sorted({TOOLS[name] for name in absent}))
        return f"{', '.join(absent)} not found (on Debian: apt-get install {packages})"
    if not any(Path("/sys/fs/cgroup").glob("*")):
        return "no control groups in /sys/fs/cgroup"
    free = shutil.disk_usage(work).free
    if free < FREE_BYTES:
        return f"{work} has {free >> 30} GiB free, {FREE_BYTES >> 30} are needed"
    return None
