"""The end of the walk: batches of the lineage topic land in DuckDB."""

import time
from collections.abc import Callable

import msgspec
import structlog
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from headwater.flows.attempt import RUN
from headwater.flows.batch import Batch
from headwater.flows.gathering import Gathering
from headwater.flows.meter import Meter
from headwater.flows.records import Told
from headwater.flows.switching import switch_often
from headwater.lineage.columns import columns_of
from headwater.lineage.landing import Landed, Landing
from headwater.lineage.message import decode_columns
from headwater.lineage.store import Store

AHEAD = 4_000
"""Records: so many or more land while the next are read and made ready. Fewer have landed before another thread had its turn."""

_log = structlog.get_logger("headwater.audit")


class LandingSink(DynamicSink[Batch]):
    """Lands every batch in one transaction, offsets included; one worker writes, for the database has one writer.

    told  hears of what is read;  gathering  of what landing takes;  clock  gives monotonic seconds
    """

    def __init__(
        self, store: Store, meter: Meter, told: Told | None, gathering: Gathering, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._meter, self._told, self._gathering, self._clock = store, meter, told, gathering, clock

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Partition":
        # The thread that lands waits for the interpreter several times in each batch, while this one computes.
        switch_often()
        return _Partition(self._store, self._meter, self._told, self._gathering, self._clock)


class _Partition(StatelessSinkPartition[Batch]):
    def __init__(self, store: Store, meter: Meter, told: Told | None, gathering: Gathering, clock: Callable[[], float]) -> None:
        self._store, self._meter, self._told, self._gathering, self._clock = store, meter, told, gathering, clock

    def write_batch(self, items: list[Batch]) -> None:
        begun = self._clock()
        landings = [landing for batch in items for landing in _landings(batch)]

        def done(landed: Landed) -> None:
            self._meter.count("records", landed.rows)
            if self._told is not None:
                self._told([record for batch in items for record in batch.records("audit", 0)])
            for batch in items:
                self._meter.reached("audit", batch.topic, batch.partition, batch.next)
            self._gathering.took(self._clock() - begun)

        if sum(landing.size for landing in landings) >= AHEAD:
            self._store.land_ahead(landings, done)
        else:
            done(self._store.land(landings))

    def close(self) -> None:
        self._store.settle()


def _landings(batch: Batch) -> list[Landing]:
    found = []
    for message in batch.plain():
        try:
            records = decode_columns(message.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Only we write this topic; a foreign message must neither stop the audit nor vanish unseen.
            _log.error("a message of the lineage topic holds no records", offset=message.offset, error=str(error))
            records = columns_of([])
        run = dict(message.headers).get(RUN, b"").decode("ascii", "replace")
        found.append(Landing(batch.broker, batch.partition, message.offset, records, run))
    return found
