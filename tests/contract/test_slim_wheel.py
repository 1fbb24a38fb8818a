"""The contract's wheel is slim: it needs pydantic and httpx, and nothing else."""

from __future__ import annotations

import email
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from support.contract import ROOT

PROTO = ROOT / "proto"
ALLOWED = {
    "annotated_types", "anyio", "certifi", "etude_client", "etude_proto", "h11", "httpcore",
    "httpx", "idna", "pydantic", "pydantic_core", "typing_extensions", "typing_inspection",
}  # fmt: skip
"""Top-level packages that importing both packages may load, beside the standard library."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of `proto/`, built from a copy, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "proto"
    source.mkdir()
    for name in ("pyproject.toml", "etude_proto", "etude_client"):
        subprocess.run(["cp", "-r", str(PROTO / name), str(source / name)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    build = [*command, "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_asks_for_little(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        packages = {entry.split("/")[0] for entry in archive.namelist()}
        typed = {entry for entry in archive.namelist() if entry.endswith("py.typed")}
    required = metadata.get_all("Requires-Dist") or []
    plain = {entry.split(">")[0].strip() for entry in required if "extra" not in entry}
    assert plain == {"pydantic", "httpx"}
    assert {p for p in packages if "." not in p} == {"etude_proto", "etude_client"}
    assert typed == {"etude_proto/py.typed", "etude_client/py.typed"}


def test_the_wheel_imports_alone(wheel: Path) -> None:
    """From the wheel itself, in a bare interpreter that sees only the allowed packages."""
    script = f"""
import sys
from importlib.abc import MetaPathFinder
site = {sysconfig.get_paths()["purelib"]!r}
allowed = set({sorted(ALLOWED)!r}) | set(sys.stdlib_module_names)
class Closed(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"{{name}} is not installed in a slim environment")
        return None
sys.meta_path.insert(0, Closed())
sys.path[:0] = [{str(wheel)!r}, site]
import etude_proto.v1, etude_proto.cargo, etude_client
assert {wheel.name!r} in etude_client.__file__, etude_client.__file__
client = etude_client.EtudeClient("http://127.0.0.1:1")
client.close()
import asyncio
asyncio.run(etude_client.AsyncEtudeClient("http://127.0.0.1:1").close())
top = {{name.split(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names)
print(*sorted(name for name in top if not name.startswith("_")))
"""
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= ALLOWED
