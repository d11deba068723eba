"""The cycle collector, told to look seldom.

Events, models and records have no cycles and are freed by their reference counts; yet each batch makes so many of them that CPython's
default (a look at every 700 new objects, at all of them soon after) doubles the time of decoding and landing.
Measured: 12.9 → 7.3 µs a record.

A look at all objects takes 60 to 120 ms for a process that has only loaded what it needs, and holds the interpreter: whoever waits for an
answer then waits so much longer. What was loaded stays, and need not be looked at again.
"""

import atexit
import gc
from functools import cache

THRESHOLDS = (50_000, 20, 50)


def collect_seldom() -> None:
    """For the whole process, for good: what runs flows calls it once at its start."""
    gc.set_threshold(*THRESHOLDS)


@cache
def keep_what_is_loaded() -> None:
    """Once in a process, when all is loaded: what there is now is not looked through again until its end. What is freed is freed."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # libraries look then for what they left behind, and would complain of all that is set aside
