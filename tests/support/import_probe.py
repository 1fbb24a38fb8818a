"""Imports modules and tells what they did meanwhile; run by `architecture/test_imports.py`.

Reads `{"modules": [...], "folders": [...]}` from standard input; prints a JSON list of deeds as its
last line. A deed is a read of the environment or an audited event (socket, file, process, thread)
with one of our files on the stack, nearer than the import system: what a third-party package does
while *it* is imported is not ours to judge. Reading source files is allowed: pydantic takes the
docstrings of fields from them.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

EVENTS = {
    "open",
    "os.listdir",
    "os.mkdir",
    "os.scandir",
    "os.system",
    "socket.__new__",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
}
SOURCES = (".py", ".pyc", ".pyi")
# Pydantic looks for its own plug-ins when the first model class is made.
PLUGIN_LOADER = "/pydantic/plugin/"


def culprit(frame: FrameType | None, folders: tuple[str, ...]) -> str | None:
    """Our file and line that acts, or None if the import system stands between."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or PLUGIN_LOADER in name:
            return None
        if name.startswith(folders):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return None


class Watch:
    """Collects the deeds of modules under some folders."""

    def __init__(self, folders: list[str]) -> None:
        self.folders = tuple(str(Path(folder).resolve()) + os.sep for folder in folders)
        self.deeds: list[str] = []

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        """Called by the interpreter for each audited event."""
        if event not in EVENTS:
            return
        if event == "open" and str(arguments[0]).endswith(SOURCES):
            return
        self.note(f"{event} {arguments!r:.80}")

    def note(self, deed: str) -> None:
        """Keep a deed if one of our files did it."""
        where = culprit(sys._getframe(2), self.folders)
        if where is not None:
            self.deeds.append(f"{where}: {deed}")


def watched_environment(watch: Watch) -> type[os._Environ[str]]:
    """A class for `os.environ` whose reads are noted."""

    class Environment(os._Environ[str]):
        def __getitem__(self, key: str) -> str:
            watch.note(f"reads the environment: {key}")
            return super().__getitem__(key)

        def __contains__(self, key: object) -> bool:
            watch.note(f"reads the environment: {key}")
            return super().__contains__(key)

        def __iter__(self) -> Iterator[str]:
            watch.note("reads the environment")
            return super().__iter__()

    return Environment


def watched_start(watch: Watch) -> Callable[[threading.Thread], None]:
    """`Thread.start` with a note; Python 3.11 has no audit event for it."""
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        watch.note("starts a thread")
        start(thread)

    return noted


def main() -> None:
    """Import what standard input asks for and print the deeds."""
    request = json.load(sys.stdin)
    sys.path[:0] = request["folders"]
    sys.dont_write_bytecode = True
    watch = Watch(request["folders"])
    os.environ.__class__ = watched_environment(watch)
    threading.Thread.start = watched_start(watch)  # type: ignore[assignment, method-assign]
    sys.addaudithook(watch.audit)
    for name in request["modules"]:
        importlib.import_module(name)
    print(json.dumps(watch.deeds))


if __name__ == "__main__":
    main()
