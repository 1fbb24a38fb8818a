"""Completion in real zsh and fish, where they are installed; `test_cli_watch.py` has bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(sys.executable).parent
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u'
zpty -w shell 'source <(etude completion zsh); echo rea""dy'
zpty -r shell told '*ready*'
for typed wanted in \
  'etude runs cre' 'etude runs create ' 'etude tasks list x --order har' 'hardest'
do
  zpty -n -w shell "$typed"$'\\t'
  zpty -r shell told "*$wanted*" || exit 1
  zpty -n -w shell $'\\025'
done
zpty -d shell
"""
"""Each text is typed, then Tab; the terminal must show what is wanted, or the test's time ends."""
FISH = """
etude completion fish | source
complete -C 'etude runs cre'
complete -C 'etude import jsonl tas'
"""


def told_by(shell: str, script: str, folder: Path) -> str:
    """What a shell prints that has no settings of anybody's."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    environment = {
        **os.environ,
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "TERM": "dumb",
    }
    done = subprocess.run(
        [shell, "-c", script], env=environment, cwd=folder, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_zsh_completes(tmp_path: Path) -> None:
    told_by("zsh", ZSH, tmp_path)


def test_fish_completes(tmp_path: Path) -> None:
    """Commands with their sentence, and files where a file is asked for."""
    (tmp_path / "tasks.jsonl").touch()
    told = told_by("fish", FISH, tmp_path).splitlines()
    assert told == ["create\tCreate a run over a dataset.", "tasks.jsonl"]
