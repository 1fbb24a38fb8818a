"""What a sandbox process gives up before it reads a call: network, files, processes, memory.

As far as the operating system allows, and it says how far: a container may refuse namespaces, root
is not bound by the limit on processes. Policies never run code here; this is the second wall.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import tempfile

CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
MEMORY_BYTES = 1 << 30
"""Address space of a session, the interpreter included (our choice)."""
MAX_FILES = 64


def without_network() -> bool:
    """Leave the network for an empty one; False where the system refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) == 0)


def without_files() -> bool:
    """See an empty, deleted directory and nothing else; False where the system refuses.

    Nothing can be imported afterwards.
    """
    directory = tempfile.mkdtemp(prefix="etude-sandbox-")
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(directory)
    try:
        os.fchdir(handle)
        os.chroot(".")
    except OSError:
        os.chdir("/")
        return False
    finally:
        os.close(handle)
    os.chdir("/")
    return True


def die_with_parent() -> None:
    """End when the process that started this one ends; take no new privileges."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def limit_session() -> None:
    """Limits of one session: no file grows, no process begins, memory is bounded."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


def alarm(seconds: float) -> None:
    """Let the kernel end this process after `seconds`, whatever it does; 0 takes it back."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
