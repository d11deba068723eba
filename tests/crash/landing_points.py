"""The points at which a process is killed whose records land ahead: one batch in a thread of its own, while the next is made ready.

See `points` for how a plan works. What lands in the thread that reads passes none of them.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from headwater.lineage.ahead import Ahead
from headwater.lineage.landing import Landing
from headwater.lineage.store import Store

LANDING_POINTS = {
    "ahead: appended": "a batch is in its open transaction",
    "ahead: overtaken": "the same, and the next one is ready to land",
    "ahead: landed": "it is committed, its flow does not know it yet",
}
"""Point → what is true there."""

PATIENCE_S = 60.0


def install(passing: Callable[[str], None], *, overtaken: bool) -> None:
    """Hook every point of this process; `overtaken`: no transaction is committed before the next batch is ready, and the last one late."""
    made, written = _Count(), _Count()
    sifted, write, begin = Store._sifted, Store._write, Ahead.begin

    def sifting(store: Store, batch: Sequence[Landing]) -> Any:
        found = sifted(store, batch)
        made.add()
        return found

    def writing(store: Store, batch: Any) -> Any:
        head = write(store, batch)
        written.add()
        if threading.current_thread().name.startswith("landing"):
            passing("ahead: appended")
            if overtaken and made.passes(written.n):
                passing("ahead: overtaken")
        return head

    def beginning(ahead: Ahead, act: Callable[[], None], size: int) -> None:
        def acting() -> None:
            act()
            passing("ahead: landed")

        begin(ahead, acting, size)

    Store._sifted = sifting  # type: ignore[method-assign]
    Store._write = writing  # type: ignore[method-assign]
    Ahead.begin = beginning  # type: ignore[method-assign]


class _Count:
    def __init__(self) -> None:
        self.n = 0

    def add(self) -> None:
        self.n += 1

    def passes(self, bound: int) -> bool:
        until = time.monotonic() + PATIENCE_S
        while self.n <= bound and time.monotonic() < until:
            time.sleep(0.002)
        return self.n > bound
