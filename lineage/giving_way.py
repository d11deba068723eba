"""giving way: threads for what may wait, beside those that may not."""

import os
import sys
import threading

NICE = 10
"""Such a thread gets a tenth of the processor time of one that does not give way, where both want it, and all of it where none does."""


def give_way() -> None:
    """From now on this thread gives way to all others of the machine (on Linux; elsewhere priorities are the process's)."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))
