"""The chain's newest head is signed every few seconds, while something lands, and sent to a topic of its own."""

import threading
from collections.abc import Callable

import msgspec
import structlog

from headwater.flows.sink import Outgoing, Writer
from headwater.lineage.heads import Heads, Signed
from headwater.lineage.store import Store
from headwater.lineage.topic import HEADS

_log = structlog.get_logger("headwater.audit")

EVERY_S = 5.0


def keep_heads(store: Store, heads: Heads, *, every_s: float = EVERY_S) -> Callable[[], None]:
    """Sign in a thread of its own; the answer ends that, and signs once more. A disk that refuses is told of and tried again."""
    stop = threading.Event()

    def keep() -> None:
        try:
            heads.keep(store.head())
        except Exception as error:  # whatever it is, landing goes on
            _log.error("the chain's head was not kept outside the database; trying again", error=str(error))

    def run() -> None:
        while not stop.wait(every_s):
            keep()

    thread = threading.Thread(target=run, name="heads", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(5)
        keep()

    return end


def to_topic(writer: Writer) -> Callable[[Signed], None]:
    """Sends a signed head to its topic. One that does not arrive is told of: the file has it."""

    def tell(signed: Signed) -> None:
        try:
            writer.write([Outgoing(HEADS, None, msgspec.json.encode(signed), [])])
        except Exception as error:
            _log.warning("a signed head is in the file, but not on its topic", batch=signed.batch, error=str(error))

    return tell
