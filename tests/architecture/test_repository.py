"""What no tracked file may hold: package indexes, paths of one machine, lock files with both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.tree import ROOT, tracked_files

# Written in pieces, so that this file does not find itself.
FORBIDDEN = {
    "address of a package index": re.compile(
        r"pypi"
        + r"\.org|pythonhosted"
        + r"\.org|registry\."
        + r"npmjs|download\.pytorch"
        + r"\.org"
        r"|deb" + r"\.debian\.org|--(extra-)?index" + r"-url\s+\S|--find" + r"-links\s+\S"
    ),
    "path of one machine": re.compile(
        r"(?<![\w.*~-])/(work|opt/wheels|opt/pypi[\w-]*|root/\.pyenv)" + r"(/|\b)"
    ),
    "private key": re.compile(r"BEGIN [A-Z ]*PRIVATE" + r" KEY"),
}
LOCK_FILES = {"uv.lock", "pylock.toml", "poetry.lock"}
PIN = re.compile(r"^([A-Za-z0-9._-]+(?:\[[\w,-]+\])?==[^\s;]+)(?: ;[^\\]*)?", re.MULTILINE)


def text(path: Path) -> str:
    """A file's text; binary files count as empty."""
    content = path.read_bytes()
    return "" if b"\0" in content[:4096] else content.decode("utf-8", "replace")


def pins(name: str) -> set[str]:
    """The pinned requirements of one file in requirements/, as `name==version`."""
    return set(PIN.findall((ROOT / "requirements" / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds_a_forbidden_text(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked_files()
        for number, line in enumerate(text(path).splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found


def test_no_lock_file_with_addresses_is_tracked() -> None:
    assert not [path for path in tracked_files() if path.name in LOCK_FILES]


def test_every_requirement_is_hashed() -> None:
    for name in ("dev", "sampler", "rollout", "trainer", "vllm", "bfcl", "site"):
        content = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        blocks = re.split(r"\n(?=\S)", content.strip())
        assert all("--hash=sha256:" in block for block in blocks if not block.startswith("#"))


@pytest.mark.parametrize("name", ["sampler.txt", "rollout.txt", "trainer.txt"])
def test_images_and_tests_install_the_same_versions(name: str) -> None:
    assert pins(name) <= pins("dev.txt")


def test_no_image_of_the_sampler_holds_torch() -> None:
    names = {pin.partition("==")[0] for pin in pins("sampler.txt")}
    assert not names & {"torch", "transformers", "safetensors-torch", "vllm"}
