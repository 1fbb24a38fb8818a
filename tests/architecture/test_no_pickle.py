"""No file of ours unpickles anything: weights and trajectories are safetensors, most else JSON."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from support.tree import ROOT

BANNED = {"pickle", "cPickle", "_pickle", "joblib", "shelve", "marshal", "dill", "cloudpickle"}
CODE_CALLS = {"eval", "exec", "compile", "__import__"}
SOURCES = [
    path
    for folder in ("proto", "services", "deploy")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "build" not in path.parts
]


def faults(text: str, name: str) -> Iterator[str]:
    """What a file does that could run what it reads."""
    for node in ast.walk(ast.parse(text)):
        line = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]} if node.level == 0 else set()
            if {alias.name for alias in node.names} <= {"UnpicklingError"}:
                names = set()  # what torch.load raises, weights_only or not
        else:
            names = set()
        if names & BANNED:
            yield f"{line} imports {sorted(names & BANNED)}"
        if not isinstance(node, ast.Call):
            continue
        words = {word.arg: word.value for word in node.keywords}
        call = ast.unparse(node.func)
        if call == "torch.load":
            flag = words.get("weights_only")
            if not (isinstance(flag, ast.Constant) and flag.value is True):
                yield f"{line} torch.load without weights_only=True"
        elif call in ("np.load", "numpy.load"):
            flag = words.get("allow_pickle")
            if flag is not None and not (isinstance(flag, ast.Constant) and flag.value is False):
                yield f"{line} numpy.load with pickle"
        elif call in ("yaml.load", "yaml.unsafe_load"):
            yield f"{line} {call}"
        elif call in CODE_CALLS:
            yield f"{line} {call}()"
        elif words.get("trust_remote_code") is not None:
            flag = words["trust_remote_code"]
            if not (isinstance(flag, ast.Constant) and flag.value is False):
                yield f"{line} trust_remote_code"


def test_nothing_is_unpickled_or_evaluated() -> None:
    found = [
        fault
        for path in SOURCES
        for fault in faults(path.read_text("utf-8"), str(path.relative_to(ROOT)))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "torch.load('x')",
        "torch.load('x', weights_only=False)",
        "np.load('x', allow_pickle=True)",
        "yaml.load(text)",
        "eval('1')",
        "f(trust_remote_code=True)",
    ],
)
def test_the_check_sees_what_it_looks_for(text: str) -> None:
    assert len(list(faults(text, "bad.py"))) == 1
    assert list(faults("torch.load('x', weights_only=True)", "good.py")) == []
