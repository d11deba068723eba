"""Child processes that die with their parent, even with one that is killed."""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_LEASH = (
    "import ctypes,os,sys;"
    f"ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG},{int(signal.SIGKILL)});"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);"
    "os.execv(sys.argv[2],sys.argv[2:])"
)


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leashed(command: Sequence[str]) -> list[str]:
    """The command as one whose process dies with the thread that starts it. `command[0]` is a path.

    Not `preexec_fn`: that runs Python between fork and exec, where another thread of the parent may have held a lock that nobody lets go of
    any more; then the child stands still for ever, and its parent with it.
    """
    return [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command]
