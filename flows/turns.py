"""Turns: on the embedded broker, the transactions of this process end one after another.

While two that wrote to one partition end at the same moment, that broker may take the one for ended before its last mark is written,
and then keeps account of that mark for as long as the producer begins no other transaction: what anybody commits there meanwhile, no
reader of committed messages sees, and if the producer was killed, none ever does. What is ended in turn is ended for good.
Other brokers need no such care; there nothing waits.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headwater.flows.broker import is_embedded

LONGEST_S = 1.0
"""How long anyone waits for a turn: an end that gets no answer must not hold up all others, it only loses them this care."""

_turn = threading.Lock()


@contextmanager
def in_turn(broker: str) -> Iterator[None]:
    """Around whatever ends a transaction: a commit, an abort, a fence. `broker` is the broker's id."""
    mine = is_embedded(broker) and _turn.acquire(timeout=LONGEST_S)
    try:
        yield
    finally:
        if mine:
            _turn.release()
