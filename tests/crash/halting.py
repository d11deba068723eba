"""The `headwater` command as a process that stops (SIGSTOP) once a lane of its bridge is at a point of its n-th transaction.

Its arguments are POINT (`filled`: it is with the client, not yet with the broker; or `committing`), N, and the command's own.
"""

import itertools
import signal
import sys
import threading
from typing import Any

from headwater.flows.cli import main
from headwater.flows.kafka import Kafka

CALLS = {"filled": "flush", "committing": "commit_transaction"}
"""Point → the call of a transactional producer that the process stops before."""


class Halting:
    """A lane's producer; the process stops before the n-th of these calls, of whichever lane."""

    calls = itertools.count(1)

    def __init__(self, producer: Any, call: str, n: int) -> None:
        self._producer, self._call, self._n = producer, call, n

    def __getattr__(self, name: str) -> Any:
        if name == self._call and next(self.calls) == self._n:
            # To this thread: sent to the process, another one might get it first and this one run on for a moment.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return getattr(self._producer, name)


def install(point: str, n: int) -> None:
    made = Kafka.producer

    def producer(self: Kafka, **more: Any) -> Any:
        inner = made(self, **more)
        return Halting(inner, CALLS[point], n) if str(more.get("transactional_id", "")).startswith("headwater-bridge-") else inner

    Kafka.producer = producer  # type: ignore[method-assign]


if __name__ == "__main__":
    install(sys.argv.pop(1), int(sys.argv.pop(1)))
    main()
