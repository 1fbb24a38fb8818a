"""Directories and files that appear whole or not at all, also after a power cut.

Used by `checkpoint.py` and `weights/disk.py`: write beside the target, sync, rename, sync the
parent.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TEMPORARY_PREFIX: Final = ".tmp-"


def sync(path: Path) -> None:
    """Flush one file or directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def begin_directory(target: Path) -> Path:
    """An empty temporary directory for `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return temporary


def finish_directory(temporary: Path, target: Path) -> None:
    """Sync a temporary directory and put it in place of `target`.

    A target that exists is replaced: it can only be the same step's, from before a crash.
    """
    for path in temporary.rglob("*"):
        sync(path)
    sync(temporary)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
    sync(target.parent)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A temporary directory that becomes `target` when the block ends without an exception."""
    temporary = begin_directory(target)
    try:
        yield temporary
        finish_directory(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_file(target: Path, text: str) -> None:
    """Put a small text file in place at once."""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(target)
    sync(target.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary entries that a killed process left in `folder`."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_directory(path: Path) -> None:
    """Remove a directory so that it is never seen half empty."""
    doomed = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}")
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)
