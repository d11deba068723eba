"""Threads told to change places often.

All flows of an application and its HTTP door share one interpreter. A thread that has waited for it, such as one that answers a search,
gets it from one that computes only when that one's time is up, and that many times in each answer; CPython's default is 5 ms a time.
"""

import sys

INTERVAL_S = 0.001


def switch_often() -> None:
    """For the whole process, for good: where flows run beside those who answer, and where lineage lands while the next is read."""
    sys.setswitchinterval(INTERVAL_S)
