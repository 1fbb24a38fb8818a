"""First program of a child process: ties its life to the demo's, then becomes the command.

`python child.py PARENT_PID COMMAND...`. On Linux the kernel sends the child SIGTERM when the demo
dies, however it dies, and every service then ends in order; the setting survives `exec`. Run as a
file by `supervisor.py`; standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replace this process by the command."""
    parent_pid, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:  # it died before the call
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
