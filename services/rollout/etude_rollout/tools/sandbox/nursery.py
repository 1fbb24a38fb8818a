"""The process that sessions are forked from: everything imported once, nothing left to open.

    python -m etude_rollout.tools.sandbox.nursery FD

FD is a Unix socket. The first line out says how far the process could be confined. Every message in
carries the socket of a new session, for which a child is forked; the end of the stream ends all.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys

from . import confine
from .serving import serve

PRELOADED = ("_strptime", "bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker")
"""Imported before files are out of reach, where they are installed."""


def main() -> None:
    """Fork a session for every socket that comes in."""
    confine.die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the sessions
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which closes us
    control = socket.socket(fileno=int(sys.argv[1]))
    facts = {"services": _preload(), "network": not confine.without_network()}
    facts["files"] = not confine.without_files()
    control.sendall(json.dumps(facts).encode() + b"\n")
    while True:
        message, handles, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _session(handles[0])
        for handle in handles:
            os.close(handle)


def _preload() -> bool:
    """Whether BFCL's services are installed."""
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError:
            return False
    from .bfcl import load_services

    load_services()
    return True


def _session(handle: int) -> None:
    """Serve one session and end."""
    status = 1
    try:
        confine.die_with_parent()
        confine.limit_session()
        serve(socket.socket(fileno=handle))
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
