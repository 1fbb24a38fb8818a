"""Importing does nothing. That modules import only inwards (.importlinter) is `make imports`."""

from __future__ import annotations

import json
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from support.tree import DISTRIBUTIONS, ROOT, module_names

PROBE = ROOT / "tests" / "support" / "import_probe.py"
# Alembic runs this file, with a context that exists only then.
SCRIPTS = {"etude_sampler.store.postgres.migrations.env"}


def probe(*names: str, path: Path | None = None) -> list[str]:
    """What the modules do while they are imported, in a process of its own."""
    folders = [str(folder) for folder in {*DISTRIBUTIONS.values(), *([path] if path else [])}]
    request = json.dumps({"modules": names, "folders": folders})
    done = subprocess.run(
        [sys.executable, str(PROBE)], input=request, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    deeds = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(deeds, list)
    return deeds


def test_importing_any_module_does_nothing() -> None:
    assert probe(*sorted(set(module_names()) - SCRIPTS)) == []


@pytest.mark.parametrize(
    ("statement", "deed"),
    [
        ("import os; os.environ.get('ETUDE_X')", "reads the environment"),
        ("import os; os.getenv('HOME')", "reads the environment"),
        ("from os import environ; 'A' in environ", "reads the environment"),
        ("import socket; socket.socket()", "socket.__new__"),
        ("open('/etc/hostname').read()", "open"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("from pydantic_settings import BaseSettings\nclass S(BaseSettings): pass\nS()", "environ"),
        ("import threading; threading.Thread(target=int).start()", "starts a thread"),
    ],
)
def test_the_probe_sees_what_it_looks_for(tmp_path: Path, statement: str, deed: str) -> None:
    (tmp_path / "careless.py").write_text(statement + "\n", encoding="utf-8")
    found = probe("careless", path=tmp_path)
    assert found
    assert deed in found[0]
    assert "careless.py" in found[0]


PURE = (
    "etude_sampler.curriculum",
    "etude_sampler.leasing",
    "etude_sampler.statistics",
    "etude_sampler.simulation",
    "etude_rollout.rewards",
    "etude_proto.rows",
    "etude_trainer.algorithms",
)


def test_every_pure_package_stands_in_its_contract() -> None:
    """import-linter refuses names that do not exist yet, so a new package could be forgotten."""
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    listed = contracts["importlinter:contract:pure"]["source_modules"].split()
    assert set(listed) == {name for name in PURE if name in module_names()}
