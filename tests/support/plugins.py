"""Packages with parts of a curriculum, as an installer lays them out; good ones and broken ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree

from support.tree import ROOT

EXAMPLE = ROOT / "docs" / "examples" / "my-strategy"
HEAD = '''
"""Parts from outside."""

from typing import ClassVar

import numpy as np

from etude_sampler.curriculum import Context, PartConfig, Weigher, WeigherConfig
from etude_sampler.curriculum.faults import KnobFault


class Flat:
    refresh_ages = ()

    def __init__(self, level):
        self.level = level

    def weights(self, stats, active_NK, *, version):
        return np.where(active_NK, self.level, 0.0)

    def explain(self, stats_row, k, version):
        return "flat"


class FlatConfig(WeigherConfig):
    """The same weight for all."""

    name: ClassVar[str] = "flat"
    level: float = 2.0
    """Weight of every task."""

    def build(self, context: Context) -> Weigher:
        return Flat(self.level)
'''
"""A module with one good part, `FlatConfig`; other code may follow."""


def lay_out(
    folder: Path, entries: Mapping[str, str], *, source: str = HEAD, name: str = "flat-part"
) -> None:
    """A package of one module that is named like it; `entries`: entry point to class."""
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{entry} = {module}:{target}" for entry, target in entries.items()]
    (info / "entry_points.txt").write_text(
        "\n".join(["[etude.curriculum_parts]", *lines, ""]), encoding="utf-8"
    )


def install_example(folder: Path) -> Path:
    """The example of the pages, built and installed by pip, without the network; its folder."""
    source, target = folder / "source", folder / "site"
    copytree(EXAMPLE, source)
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *flags, "--target", str(target), str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target
