"""lineage: landing records as the audit flow does, against inserting the same rows and nothing else."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from headwater.flows.bench.bed import Bed, Spoiled, demand, now, seconds
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.told import BROKER, IN_A_MESSAGE, OF_A_BATCH, messages, told
from headwater.flows.switching import LANDING_S, switch_often
from headwater.lineage.columns import Columns, columns_of
from headwater.lineage.landing import Landing, table
from headwater.lineage.message import decode_columns
from headwater.lineage.store import Store, open_database
from headwater.lineage.verify import verify

RECORDS = 100_000
IN_A_TRANSACTION = 50
"""Messages: the audit flow lands what came within 100 ms together, and at this rate that is ten thousand records."""

PLAIN_ALL = "insert with rows made from records"
PACKED = "landed, and the file written out, as the insert's clock has it"


def rounds(bed: Bed) -> Iterator[Round]:
    """Records per second."""
    switch_often(LANDING_S)  # as where `audit` runs by itself
    records = told(bed.many(RECORDS, least=4 * OF_A_BATCH))
    sent = messages(records)
    count, at_once = len(records), IN_A_MESSAGE * IN_A_TRANSACTION
    pieces = [columns_of(records[start : start + at_once], open=False) for start in range(0, count, at_once)]
    tables = [_plain(piece) for piece in pieces]
    # A hundred thousand records that wait here would be gone through by every collection of garbage while others land.
    del records
    while True:
        home = bed.home()
        with Store(home / "lineage.duckdb", clock=now) as store:
            landed = seconds(lambda: land(store, sent))
            found = verify(store, in_flight_ok=False)
            demand(found.records, count, "records landed")
            if not found.ok:
                raise Spoiled(f"what landed does not verify: {found.offences[0]}")
            packed = landed + seconds(store.close)
        plain = seconds(lambda: _insert(str(home / "plain.duckdb"), tables))  # noqa: B023
        made = seconds(lambda: _insert(str(home / "made.duckdb"), [_plain(piece) for piece in pieces]))  # noqa: B023
        yield Round(count / landed, count / plain, {PLAIN_ALL: count / made, PACKED: count / packed})


def land(store: Store, messages: Sequence[bytes]) -> None:
    """Messages as the lineage topic holds them → the database."""
    for start in range(0, len(messages), IN_A_TRANSACTION):
        some = messages[start : start + IN_A_TRANSACTION]
        store.land_ahead([Landing(BROKER, 0, start + n, decode_columns(message)) for n, message in enumerate(some)])
    store.settle()


def _plain(records: Columns) -> pa.Table:
    """All columns as what they are, without dictionaries."""
    rows = table(records, 0, 1)
    types = [of.type.value_type if pa.types.is_dictionary(of.type) else of.type for of in rows.schema]
    return rows.cast(pa.schema(list(zip(rows.column_names, types, strict=True))))


def _insert(path: str, tables: Sequence[pa.Table]) -> None:
    """The same columns without chain, names, offsets, or a look at what landed before."""
    connection = open_database(path)
    for number, rows in enumerate(tables):
        connection.register("landing", rows)
        if number == 0:
            connection.execute("CREATE TABLE records AS SELECT * FROM landing LIMIT 0")
        connection.execute("INSERT INTO records SELECT * FROM landing")
        connection.unregister("landing")
    connection.close()


BENCH = Bench(
    "lineage",
    "records from messages into DuckDB, chained, named, nothing twice; then verified",
    "records/s",
    (Target("≥", 100_000, "value", "records/s"), Target("≥", 0.5)),
    rounds,
    "inserting the same rows, made beforehand",
)
