"""Ten million records in the database's own form, and decisions among them; made once, kept between runs.

A fortieth is landed as flows land it. The rest is made of that by SQL, each copy with offsets, ids and names of its own, with its leaves,
its link in the chain and its names in sorted runs, as landing would have left them; it would take two minutes to land them.
"""

# ruff: noqa: S608  (the SQL is put together from constants; what comes from outside is a parameter)

from collections.abc import Sequence
from pathlib import Path

import msgspec

from headwater.flows.bench import told
from headwater.flows.bench.bed import now
from headwater.lineage import sums
from headwater.lineage.chain import LEAF, ROOT, Head, link
from headwater.lineage.duration import to_datetime
from headwater.lineage.event import Position
from headwater.lineage.landing import Landing
from headwater.lineage.message import decode_batch, encode_batch
from headwater.lineage.name_pages import sort_names
from headwater.lineage.names import NAME, Connection
from headwater.lineage.record import Record, record_id, run_of
from headwater.lineage.store import Store, open_database
from headwater.lineage.testing import activation, decision, name
from headwater.lineage.topic import ACTIVATIONS

FORM = 3
"""Of what is made here; another number makes it anew."""
COPIES = 40
STOPS = (0, 20, COPIES)
"""Copies after which decisions are made: early, in the middle, at the end."""
AT_A_STOP = 5
EVENTS = 12


def decisions() -> list[str]:
    """The ids of the decisions among the records, oldest first."""
    return [name("decision", number) for number in range(len(STOPS) * AT_A_STOP)]


def millions(folder: Path, count: int) -> Path:
    """The database of so many records in a folder, made there unless it is."""
    path = folder / f"records-{count}-form-{FORM}.duckdb"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        half_made = path.with_suffix(".half")
        half_made.unlink(missing_ok=True)
        _make(half_made, count // COPIES)
        half_made.replace(path)
    Store(path, clock=now).close()  # of an older form of the database it is brought to today's, as everybody's is
    return path


def _make(path: Path, seed: int) -> None:
    records = told.told(seed)
    with Store(path, clock=now) as store:
        store.land([Landing(told.BROKER, 0, n, decode_batch(message)) for n, message in enumerate(told.messages(records))])
    events = len(records) // told.OF_A_BATCH * 64
    copied = 0
    for stop, until in enumerate(STOPS):
        with open_database(path) as connection:
            for copy in range(copied + 1, until + 1 if until < COPIES else until):
                _copy(connection, copy, events, len(records))
        copied = max(copied, until)
        with Store(path, clock=now) as store:
            _decide(store, stop, newest=min(copied + 1, COPIES) * events)
    with open_database(path) as connection:
        sums.count_anew(connection)  # of copies no batch told


def _copy(connection: Connection, copy: int, events: int, rows: int) -> None:
    """The landed records once more, `copy * events` offsets further on."""
    last = connection.execute("SELECT batch, next_seq, head FROM chain ORDER BY batch DESC LIMIT 1").fetchall()[0]
    before, batch, shift = Head(*last), last[0] + 1, copy * events
    connection.begin()
    connection.execute(
        f"""INSERT INTO records SELECT * REPLACE ({LEAF} AS leaf) FROM (SELECT * REPLACE (
            seq + {before.seq} AS seq, {batch} AS batch, md5(id || '{copy}') AS id,
            "first" + {shift} AS "first", "next" + {shift} AS "next",
            CASE WHEN ref = '' THEN '' ELSE regexp_replace(ref, '[0-9]+$', ("first" + {shift})::VARCHAR) END AS ref,
            CASE WHEN ref = '' THEN parents ELSE ['{told.BROKER}/{told.TOPIC}/0/' || ("first" + {shift})] END AS parents,
            replace(replace(replace(data::VARCHAR, 'UA-' || "first" || '"', 'UA-' || ("first" + {shift}) || '"'),
                'UA-' || "first" || '/', 'UA-' || ("first" + {shift}) || '/'), '-0000-5000-', '-{copy:04x}-5000-')::JSON AS data)
        FROM records WHERE seq < {rows}) ORDER BY seq"""
    )
    texts = "[ref, split_part(ref, '/', 2), data->>'$.event', data->>'$.chunks[0].id']"
    connection.execute(
        f"""INSERT INTO names_new SELECT {NAME}, seq
        FROM (SELECT unnest({texts}) AS text, seq FROM records WHERE batch = {batch} AND kind = 'document')"""
    )
    sort_names(connection)
    root = connection.execute(f"SELECT {ROOT} FROM records WHERE batch = {batch}").fetchall()[0][0]
    entry = link(before, before.seq + rows, str(root))
    connection.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, ?)", [*entry, to_datetime(now())])
    connection.commit()


def _decide(store: Store, stop: int, newest: int) -> None:
    """Decisions on events among the newest, as activations wake agents; `newest` is the offset after the last."""
    apart = max(1, newest // (COPIES * EVENTS * AT_A_STOP * 2))
    for number in range(AT_A_STOP):
        last = newest - 1 - number * EVENTS * apart
        places = [Position(told.BROKER, told.TOPIC, 0, last - n * apart) for n in reversed(range(EVENTS))]
        which = stop * AT_A_STOP + number
        store.land([Landing(told.BROKER, 1, which, _path(which, places))])


def _path(number: int, places: Sequence[Position]) -> list[Record]:
    """An activation, what its agent saw, said and did, under ids of their own."""
    woken = Position(places[0].broker, ACTIVATIONS, 0, number)
    read = run_of("consumed", "decide/recover", woken, number + 1, 1, now())
    ended = run_of("outcome", "decide/recover", woken, number + 1, 1, now(), "acted", name("decision"))
    body = encode_batch([activation(places), read, *decision(places, "acted"), ended])
    for what in ("activation", "decision", "effect"):
        body = body.replace(name(what).encode(), name(what, number).encode())
    body = body.replace(b"plans/0/17", f"plans/0/{number}".encode())
    return [msgspec.structs.replace(record, id=record_id(record.id, number)) for record in decode_batch(body)]
