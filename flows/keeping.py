"""Progress is kept beside the points it covers, for readers in other processes and for the next start."""

import threading
import time
from collections.abc import Callable

import structlog

from headwater.enrichers.engine import Index
from headwater.enrichers.freshness import Progress

_log = structlog.get_logger("headwater.runtime")

SAVE_S = 0.02
"""How often progress is written, when it changed."""
HEARTBEAT_S = 0.5
RETRY_S = 0.5
"""How long the writing pauses after the store refused it."""


def keep_progress(index: Index, progress: Progress, *, often: bool) -> Callable[[], None]:
    """Write it in a thread of its own as a heartbeat, and (`often`) whenever it changed; the answer ends that, and writes once more.

    A store that refuses is tried again.
    """
    stop = threading.Event()

    def run() -> None:
        saved, saved_at, pause = -1, 0.0, SAVE_S
        while not stop.wait(pause):
            revision, now = progress.revision, time.monotonic()
            if not ((revision != saved and often) or now - saved_at > HEARTBEAT_S):
                continue
            try:
                index.save_progress(progress.rows())
                saved, saved_at, pause = revision, now, SAVE_S
            except Exception as error:  # whatever it is, the thread must outlive it
                if pause == SAVE_S:
                    _log.warning("progress not stored; trying again", error=str(error))
                pause = RETRY_S

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        thread.join(5)
        index.save_progress(progress.rows())

    return end
