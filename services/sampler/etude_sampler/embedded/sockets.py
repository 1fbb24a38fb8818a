"""Where a server's Unix socket lies: in its data directory if the path is short enough.

The kernel takes socket paths of at most 107 bytes, and a deep checkout or a temporary directory of
a test runner is easily longer. Such a data directory gets a private folder under `/tmp`, named by
a digest of its path, so that a restart finds the same address.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from .errors import EmbeddedServerError

MAX_SOCKET_PATH_BYTES = 107
SHORT_ROOT = Path("/tmp")


def socket_folder(data_dir: Path, *, socket_name: str) -> Path:
    """The folder in which a server with this data directory opens the socket `socket_name`.

    Returns `data_dir` itself (resolved) where the socket's path fits, else a folder of mode 0700
    that is created if it does not exist.

    Raises:
        EmbeddedServerError: the short folder exists and belongs to somebody else.
    """
    resolved = data_dir.resolve()
    if len(os.fsencode(resolved / socket_name)) <= MAX_SOCKET_PATH_BYTES:
        return resolved
    name = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:16]
    folder = SHORT_ROOT / f"etude-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # The servers trust whoever reaches the socket, so nobody else may own or enter its folder.
    mine = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not mine or (status.st_uid != os.getuid() and os.getuid() != 0):
        raise EmbeddedServerError(f"{folder} is not private to this user; remove it")
    return folder
