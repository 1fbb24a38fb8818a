"""First program of a vLLM server process: ties its life to the parent's, then becomes vLLM.

Run by `engines/vllm_server.py` with vLLM's interpreter: `python -m etude_rollout.vllm_child
PARENT_PID ARGUMENTS...`. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
SERVER_MODULE = "vllm.entrypoints.openai.api_server"


def main(arguments: list[str]) -> None:
    """Replace this process by vLLM's server, which gets SIGINT when the parent dies.

    The setting survives `exec`. Not on Linux: the server may outlive a killed parent.
    """
    parent_pid = int(arguments[0])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent_pid:  # it died before the call
            sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-m", SERVER_MODULE, *arguments[1:]])


if __name__ == "__main__":
    main(sys.argv[1:])
