"""The two clients are twins, light to import, and declare each operation once."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest

from etude_client import (
    AsyncEtudeClient,
    EtudeClient,
    deleting,
    drawing,
    keys,
    operations,
    travel,
)

TWINS = {"AsyncIterator": "Iterator", "AsyncHeartbeat": "Heartbeat"}


def public(client: type[object]) -> dict[str, Callable[..., object]]:
    """Public methods of a client."""
    members = inspect.getmembers(client, inspect.isfunction)
    return {name: method for name, method in members if not name.startswith("_")}


def test_the_twins_have_the_same_methods() -> None:
    assert set(public(AsyncEtudeClient)) == set(public(EtudeClient))


@pytest.mark.parametrize("name", sorted(set(public(EtudeClient)) - {"heartbeat"}))
def test_the_twins_agree(name: str) -> None:
    ours, theirs = public(EtudeClient)[name], public(AsyncEtudeClient)[name]
    assert ours.__doc__ == theirs.__doc__
    want, have = inspect.signature(ours), inspect.signature(theirs)
    assert list(want.parameters.values()) == list(have.parameters.values())
    answer = str(have.return_annotation)
    for theirs_name, ours_name in TWINS.items():
        answer = answer.replace(theirs_name, ours_name)
    assert answer == want.return_annotation


def test_every_operation_is_declared_once() -> None:
    declared = {
        name
        for module in (operations, deleting, drawing, keys, travel)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    probes = {"livez", "readyz", "startupz"}
    helpers = {name for name in public(EtudeClient) if name.startswith("iter_")} | {"import_rows"}
    methods = set(public(EtudeClient)) - helpers - {"close", "heartbeat"}
    assert declared - {"health"} | probes == methods


def test_importing_is_quick_and_light() -> None:
    """Without the network library or any service's packages.

    It takes 0.27 s of processor time alone, and more beside other tests.
    """
    code = (
        "import sys, time; begun = time.process_time(); import etude_client; "
        "print(time.process_time() - begun); print(*sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
        for _ in range(5)
    ]
    seconds, modules = zip(*(run.stdout.decode().splitlines() for run in runs), strict=True)
    assert min(float(text) for text in seconds) < 0.5
    heavy = {"httpx", "numpy", "safetensors", "torch", "fastapi", "starlette", "redis"}
    assert heavy.isdisjoint(modules[0].split())
