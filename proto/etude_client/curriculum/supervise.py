"""Run a command until standard input ends, then interrupt it: a child that outlives nobody.

`local.py` starts this file as a script, with the standard library only, so that a sampler ends
also when its owner is killed: the pipe closes with the owner, whatever ended it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """Run it; its exit code."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    ended = threading.Event()

    def follow() -> None:
        while os.read(0, 4096):  # not `sys.stdin`: its lock must be free when this process ends
            pass
        if not ended.is_set():
            child.send_signal(signal.SIGINT)

    # Interrupts from the keyboard are the owner's matter; it closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGINT))
    threading.Thread(target=follow, daemon=True).start()
    code = child.wait()
    ended.set()
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
