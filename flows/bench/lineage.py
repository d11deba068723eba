"""lineage: landing records as the audit flow does, against inserting the same rows and nothing else."""

import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa

from headwater.flows.bench.bed import Bed, Spoiled, demand, now, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.lineage.event import Position
from headwater.lineage.landing import Landing, table
from headwater.lineage.record import Record, decode_batch, encode_batch, fact, run_of
from headwater.lineage.store import Store, open_database
from headwater.lineage.verify import verify

RECORDS = 100_000
OF_A_BATCH = 66
"""Records that tell of one batch: what was read, how it ended, and each document."""
IN_A_MESSAGE = 200
IN_A_TRANSACTION = 50
"""Messages: the audit flow lands what came within 100 ms together, and at this rate that is ten thousand records."""

BROKER = "bench"
PLAIN_ALL = "insert with rows made from records"


def rounds(bed: Bed) -> Iterator[Round]:
    """Records per second."""
    records = list(itertools.islice(_records(), bed.many(RECORDS // OF_A_BATCH, least=4) * OF_A_BATCH))
    messages = [encode_batch(records[start : start + IN_A_MESSAGE]) for start in range(0, len(records), IN_A_MESSAGE)]
    pieces = [records[start : start + IN_A_MESSAGE * IN_A_TRANSACTION] for start in range(0, len(records), IN_A_MESSAGE * IN_A_TRANSACTION)]
    tables = [table(piece, 0, 1) for piece in pieces]
    while True:
        home = bed.home()
        with Store(home / "lineage.duckdb", clock=now) as store:
            landed = seconds(lambda: _land(store, messages))
            found = verify(store, in_flight_ok=False)
            demand(found.records, len(records), "records landed")
            if not found.ok:
                raise Spoiled(f"what landed does not verify: {found.offences[0]}")
        plain = seconds(lambda: _insert(str(home / "plain.duckdb"), tables))  # noqa: B023
        made = seconds(lambda: _insert(str(home / "made.duckdb"), [table(piece, 0, 1) for piece in pieces]))  # noqa: B023
        yield Round(len(records) / landed, len(records) / plain, {PLAIN_ALL: len(records) / made})


def _land(store: Store, messages: Sequence[bytes]) -> None:
    """Messages as the lineage topic holds them → the database."""
    for start in range(0, len(messages), IN_A_TRANSACTION):
        some = messages[start : start + IN_A_TRANSACTION]
        store.land([Landing(BROKER, 0, start + n, decode_batch(message)) for n, message in enumerate(some)])


def _insert(path: str, tables: Sequence[pa.Table]) -> None:
    """The same columns without chain, names, offsets, or a look at what landed before."""
    connection = open_database(path)
    for number, rows in enumerate(tables):
        connection.register("landing", rows)
        if number == 0:
            connection.execute("CREATE TABLE records AS SELECT * EXCLUDE (names) FROM landing LIMIT 0")
        connection.execute("INSERT INTO records SELECT * EXCLUDE (names) FROM landing")
        connection.unregister("landing")
    connection.close()


def _records() -> Iterator[Record]:
    """What `index` says of batches of 64 events: read, each document, and how they ended."""
    logged = now()
    for first in itertools.count(0, 64):
        where = Position(BROKER, "flights", 0, first)
        yield run_of("consumed", "index", where, first + 64, 64, logged)
        yield run_of("outcome", "index", where, first + 64, 64, logged, "indexed")
        for offset in range(first, first + 64):
            yield _document(Position(BROKER, "flights", 0, offset), logged)


def _document(place: Position, logged: int) -> Record:
    flight = f"2013-02-08-EWR-UA-{place.offset}"
    text = f"United Air Lines flight UA {place.offset} from Newark to Chicago, due at 14:05, was cancelled."
    chunk = {"n": 0, "id": f"6f1c0b1e-0000-5000-8000-{place.offset:012d}", "hash": f"{place.offset:032x}", "section": "", "text": text}
    data = {
        "type": "flight_status", "document": flight, "version": 2, "event": f"{flight}/cancelled", "fields": {"origin": "EWR"},
        "chunks": [chunk], "appended": logged, "settled": logged + 41_000,
    }  # fmt: skip
    return fact(
        "document", "index", "upsert", f"flight_status/{flight}", logged=logged, parents=(str(place),), where=place,
        at=logged, outcome="indexed", data=data,
    )  # fmt: skip


BENCH = Bench(
    "lineage",
    "records from messages into DuckDB, chained, named, nothing twice; then verified",
    "records/s",
    (Target("≥", 100_000, "value", "records/s"), Target("≥", 0.5)),
    rounds,
    "inserting the same rows, made beforehand",
)
