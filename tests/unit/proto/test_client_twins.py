"""The two clients are twins, light to import, and declare each operation once."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from collections.abc import Callable

import pytest

from etude_client import (
    AsyncCurriculum,
    AsyncEtudeClient,
    Curriculum,
    EtudeClient,
    deleting,
    drawing,
    keys,
    operations,
    travel,
)
from etude_client.curriculum import Delivery

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


def test_the_curricula_are_twins() -> None:
    """Same calls, parameters, defaults and answers; the async one's pages say whose twin it is."""
    ours, theirs = surface(Curriculum), surface(AsyncCurriculum)
    assert set(theirs) - {"receipts"} == set(ours) | {"open"}
    assert "receipts" in dir(Delivery)
    ours["open"] = Curriculum.__init__
    for name, ours_one in ours.items():
        theirs_one = theirs[name]
        if isinstance(ours_one, property):
            assert isinstance(theirs_one, property), name
            assert ours_one.__doc__ == theirs_one.__doc__, name
            continue
        assert not isinstance(theirs_one, property), name
        want, have = inspect.signature(ours_one), inspect.signature(theirs_one)
        drop = {"self", "cls", "plan"} if name == "open" else {"self", "cls"}
        assert parameters(want, drop) == parameters(have, drop), name
        if name != "open":  # which returns what it makes
            answer = str(have.return_annotation).replace("AsyncIterator", "Iterator")
            assert answer == want.return_annotation, name
        said = theirs_one.__doc__ or ""
        assert said.startswith(f"As `Curriculum{'' if name == 'open' else '.' + name}`"), name


def surface(kind: type[object]) -> dict[str, Callable[..., object] | property]:
    """Public methods and properties, class methods as functions, and the run."""
    found: dict[str, Callable[..., object] | property] = {}
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_") or not isinstance(
            member, property | classmethod | staticmethod | types.FunctionType
        ):
            continue
        found[name] = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    found.pop("run", None)  # an attribute of the one, a property of the other
    return found


def parameters(signature: inspect.Signature, without: set[str]) -> list[inspect.Parameter]:
    """Parameters but for some."""
    return [one for name, one in signature.parameters.items() if name not in without]
