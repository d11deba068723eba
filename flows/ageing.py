"""The policy of retention: looked at every hour while `audit` runs, applied once a day; by command whenever it is asked for."""

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from headwater.flows.settings import Settings
from headwater.lineage.duration import duration
from headwater.lineage.retention import aged
from headwater.lineage.store import Store

_log = structlog.get_logger("headwater.audit")

LOOK_S = 3600.0
FIRST_S = 60.0
"""How long after the start it is looked first: a process may be started anew more often than every hour."""
DAY_US = 24 * 3_600_000_000


def prune(store: Store, settings: Settings, now: int, *, by: str, why: str, dry_run: bool, rewrite: bool = True) -> dict[str, Any]:
    """Remove what the settings say is too old, or tell what that is. `rewrite`: the file as well, at once, so that it shrinks."""
    before = [now - duration(text) if text else None for text in (settings.lineage_keep_texts, settings.lineage_keep_reasoning)]
    told, removal = aged(store, texts_before=before[0], records_before=before[1], by=by, why=why)
    record = "" if dry_run or removal.empty else store.remove(removal, rewrite=rewrite).id
    return {**msgspec.to_builtins(told), "record": record}


def keep_policy(
    store: Store, settings: Settings, clock: Callable[[], int], *, first_s: float = FIRST_S, look_s: float = LOOK_S
) -> Callable[[], None]:
    """Apply it in a thread of its own, once a day; the answer ends that. The file is rewritten when it is opened next."""
    stop = threading.Event()

    def run() -> None:
        pause_s = first_s
        while not stop.wait(pause_s):
            pause_s = look_s
            try:
                now = clock()
                if now - _last(store) >= DAY_US:
                    told = prune(store, settings, now, by="headwater", why="policy", dry_run=False, rewrite=False)
                    if told["record"]:
                        _log.info("removed by policy", **told)
            except Exception as error:  # whatever it is, landing goes on
                _log.error("the policy of retention was not applied; trying again in an hour", error=str(error))

    if settings.lineage_keep_texts or settings.lineage_keep_reasoning:
        threading.Thread(target=run, name="retention", daemon=True).start()
    return stop.set


def _last(store: Store) -> int:
    with store.cursor() as cursor:
        query = "SELECT coalesce(max(epoch_us(logged)), 0) FROM records WHERE kind = 'retention'"
        return int(cursor.execute(query).fetchall()[0][0])
