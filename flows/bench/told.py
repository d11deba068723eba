"""What `index` says of batches of 64 events, as records: what the benchmarks of lineage land."""

import itertools
from collections.abc import Iterator

from headwater.flows.bench.bed import now
from headwater.lineage.event import Position
from headwater.lineage.message import encode_batch
from headwater.lineage.record import Record, fact, run_of

BROKER, TOPIC = "bench", "flights"
OF_A_BATCH = 66
"""Records that tell of one batch: what was read, how it ended, and each document."""
IN_A_MESSAGE = 200


def told(count: int, start: int = 0) -> list[Record]:
    """So many records (whole batches), from the offset `start` on."""
    return list(itertools.islice(_records(start), count // OF_A_BATCH * OF_A_BATCH))


def messages(records: list[Record]) -> list[bytes]:
    """The records as messages of the lineage topic."""
    return [encode_batch(records[start : start + IN_A_MESSAGE]) for start in range(0, len(records), IN_A_MESSAGE)]


def _records(start: int) -> Iterator[Record]:
    logged = now()
    for first in itertools.count(start, 64):
        where = Position(BROKER, TOPIC, 0, first)
        yield run_of("consumed", "index", where, first + 64, 64, logged)
        yield run_of("outcome", "index", where, first + 64, 64, logged, "indexed")
        for offset in range(first, first + 64):
            yield document(Position(BROKER, TOPIC, 0, offset), logged)


def document(place: Position, logged: int) -> Record:
    """One document version reached the index. Its chunk's id is spread as ids are; what `millions` replaces stands in its middle."""
    flight = f"2013-02-08-EWR-UA-{place.offset}"
    text = f"United Air Lines flight UA {place.offset} from Newark to Chicago, due at 14:05, was cancelled."
    spread = place.offset * 2_654_435_761 % 2**32  # Knuth's multiplicative hash: each offset once
    chunk = {"n": 0, "id": f"{spread:08x}-0000-5000-8000-{place.offset:012x}", "hash": f"{place.offset:032x}", "section": "", "text": text}
    data = {
        "type": "flight_status", "document": flight, "version": 2, "event": f"{flight}/cancelled", "fields": {"origin": "EWR"},
        "chunks": [chunk], "appended": logged, "settled": logged + 41_000,
    }  # fmt: skip
    return fact(
        "document", "index", "upsert", f"flight_status/{flight}", logged=logged, parents=(str(place),), where=place,
        at=logged, outcome="indexed", data=data,
    )  # fmt: skip
