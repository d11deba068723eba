"""Threads told to change places often.

All flows of an application and its HTTP door share one interpreter. A thread that has waited for it, such as one that answers a search,
gets it from one that computes only when that one's time is up, and that many times in each answer; CPython's default is 5 ms a time.
"""

import sys

INTERVAL_S = 0.001
LANDING_S = 0.0001
"""Of a process that does nothing but land lineage: its two threads hand the interpreter over some twenty-five times in each transaction.
Where agents are called so many changes cost more than they give."""


def switch_often(interval_s: float = INTERVAL_S) -> None:
    """For the whole process, for good, unless it does so oftener: where flows run beside those who answer, and where lineage lands while
    the next is read."""
    if interval_s < sys.getswitchinterval():
        sys.setswitchinterval(interval_s)
