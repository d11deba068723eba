"""The lineage store: a DuckDB file with one writer, the audit flow, and readers beside it.

A batch lands in one transaction: records, their names, the chain, the replays, and the offsets in the lineage topic from which the audit
flow goes on. So whatever is killed at whatever moment, a record is never lost and never there twice.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import duckdb
import pyarrow as pa
import structlog

from headwater.lineage import sums
from headwater.lineage.ahead import Ahead
from headwater.lineage.beginnings import gather
from headwater.lineage.chain import GENESIS, Head, link, root
from headwater.lineage.duration import to_datetime
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.gate import PATIENCE_S, Cursor, Gate
from headwater.lineage.keep import KEY_BYTES, keep, opened, stored
from headwater.lineage.known import known_of
from headwater.lineage.landing import Known, Landed, named, table
from headwater.lineage.landing import Landing as Landing
from headwater.lineage.leaves import leaves
from headwater.lineage.migrations import LEDGER, MIGRATIONS
from headwater.lineage.name_pages import enough, sort_names, waiting
from headwater.lineage.record import Record
from headwater.lineage.removal import Removal, remove
from headwater.lineage.rewrite import beside, copied, on_disk
from headwater.lineage.texts import Texts
from headwater.lineage.unended import lives_over, received, unended
from headwater.lineage.writing import Ready, write

SETTINGS: dict[str, str] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    # Seldomer checkpoints: a third less time in landing, for at most a second more when opening after a kill.
    "checkpoint_threshold": "128MB",
    # What a query spills to disk, at most; DuckDB itself would take nine tenths of what is free.
    "max_temp_directory_size": "8GB",
    "memory_limit": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2_000_000}MB",
}
"""Settings hold for the whole database instance, so the writer lives with what readers need: no other files, no extensions."""

_log = structlog.get_logger("headwater.lineage")

ROOM = 25_000
"""Records that may be ahead of their transactions: now and then one takes twice as long, for it sorts names too. Some 25 MB."""


def open_database(path: Path | str, *, read_only: bool = False, sharing: bool = False) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that reads no other file and whose settings are locked. Raises Unavailable.

    sharing  compute with half of the processors, for flows run beside it: the engine's own threads do not give way to them as readers do
             (see `answering`), so with all of them whoever asks slows who lands, who needs but one

    Read-only, the file of an older headwater is given today's form first: what reads knows no other.
    """
    try:
        connection = duckdb.connect(str(path), read_only=read_only, config=dict(SETTINGS))
    except duckdb.IOException as error:
        raise Unavailable(f"the lineage file {path} cannot be opened ({_first_line(error)}); if headwater runs, ask it over HTTP") from None
    if read_only and _is_older(connection):
        connection.close()
        Store(path, clock=lambda: time.time_ns() // 1000).close()
        return open_database(path, read_only=True)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    if sharing:
        threads = int(connection.execute("SELECT current_setting('threads')").fetchall()[0][0])
        connection.execute(f"SET GLOBAL threads = {max(1, threads // 2)}")
    connection.execute("SET lock_configuration = true")
    return connection


class Store:
    """The writer's side of the lineage database. `clock` gives µs since 1970; `random` so many bytes that nobody can guess;
    `patience_s` is how long readers may keep the file from being exchanged.

    `land` may be called from any thread, one at a time; readers in other threads take a `cursor()` each.
    """

    def __init__(
        self, path: Path | str, *, clock: Callable[[], int], random: Callable[[int], bytes] = secrets.token_bytes,
        patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        self.path = path
        self._patience_s = patience_s
        self._clock, self._random = clock, random
        self._writing = threading.Lock()
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._connection = open_database(path, sharing=True)
        self._offsets: dict[tuple[str, int], int] = {}
        self._head = Head(0, 0, GENESIS)
        self._last = self._head  # after all that was made ready, while the head is of what is committed
        self._names = 0
        self._ahead = Ahead(ROOM)
        self._known = Known()
        self._texts = Texts(b"", 0, {})
        self._gate = Gate()
        self._migrate()
        self._scrub()
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Write the file out and let go of it, once what is on its way has landed."""
        with self._writing:
            self._ahead.close()
            self._connection.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one's own to the same database, for one reader in one thread; close it after use. Raises Unavailable."""
        thread = self._gate.enter()
        try:
            return cast(duckdb.DuckDBPyConnection, Cursor(self._connection.cursor(), self._gate, thread))
        except BaseException:
            self._gate.leave(thread)
            raise

    def head(self) -> Head:
        """The head of the chain as it is committed, to be kept outside the database."""
        with self._writing:
            self._ahead.wait()
            return self._head

    def offsets(self, broker: str) -> dict[int, int]:
        """Partition of the lineage topic → the offset at which to go on reading."""
        with self._writing:
            self._ahead.settle()
        return {partition: following for (of, partition), following in self._offsets.items() if of == broker}

    def land(self, batch: Sequence[Landing]) -> Landed:
        """Land messages of the lineage topic in one transaction. What landed before (by offset, id or range) is cut off."""
        with self._writing, self._remembering():
            ready = self._ready(batch)
            self._ahead.settle()
            self._commit(ready)
            return ready.landed

    def land_ahead(self, batch: Sequence[Landing], done: Callable[[Landed], object] = bool) -> None:
        """The same, but return once all is ready for the transaction: that goes on in a thread of its own while the next batch is made
        ready, and `done` hears of it there once it is committed. `done` must ask nothing of the store.

        One batch is ahead at most, or several that have no more than ROOM records together. Raises what the transaction of a batch before
        raised; nothing lands any more then.
        """

        def act() -> None:
            self._commit(ready)
            done(ready.landed)

        with self._writing, self._remembering():
            ready = self._ready(batch)
            self._ahead.begin(act, ready.landed.rows)

    def settle(self) -> None:
        """Wait until all that was given has landed. Raises what its transaction raised."""
        with self._writing:
            self._ahead.settle()

    def remove(self, removal: Removal, *, rewrite: bool = True) -> Record:
        """Remove contents and records, in one transaction with the record that tells of it; then (`rewrite`) the file is made anew.

        Else that is done when it is opened the next time. The key goes too: whoever guesses a text cannot find out that it was there.
        Raises Unavailable if readers do not let the file be exchanged: what is removed is removed then, its bytes go at the next opening.
        """
        with self._writing:
            self._ahead.settle()
            with self._remembering(), self._transaction():
                record = remove(self._connection, removal, self._clock())
                key = self._random(KEY_BYTES)
                self._connection.execute("UPDATE contents_key SET key = ?", [key])
                self._texts = Texts(key, self._texts.next, {})
                self._land([record])
            self._head = self._last
            if rewrite:
                self._scrub()
            return record

    def _scrub(self) -> None:
        """Put a copy in place of the file, if something was removed whose bytes are still in it."""
        if str(self.path) == ":memory:":
            self._connection.execute("DELETE FROM unscrubbed")
            return
        if not self._one("SELECT count(*) FROM unscrubbed"):
            return
        path = Path(self.path)
        new = beside(path)
        new.unlink(missing_ok=True)
        with open_database(new) as copy:
            copied(self._connection, copy)
        on_disk(new)
        with self._gate.alone(self._patience_s):
            self._connection.execute("CHECKPOINT")  # the write-ahead log must not be taken for the new file's
            self._connection.close()
            try:
                new.replace(path)
                on_disk(path)
            finally:
                self._connection = open_database(path, sharing=True)
        self._load()

    def lost_with_broker(self, broker: str) -> int:
        """Close what is open of all brokers but this one: their events cannot be read again. Returns how many positions.

        Of each whose lineage was landed here a record `life` says that it is over, and up to where it was landed (see `over`).

        What a bridge receives lies at the broker of another region, whose life goes on: that stays open, and is read again.
        """
        with self._writing:
            self._ahead.settle()
            now = self._clock()
            records = [r for r in unended(self._known.ranges, now) if r.broker != broker and not received(r.flow)]
            records += lives_over(self._offsets, broker, now)
            if records:
                with self._remembering(), self._transaction():
                    self._land(records)
                self._head = self._last
            return sum(record.count for record in records if record.kind == "outcome")

    def _ready(self, batch: Sequence[Landing]) -> Ready:
        """What is to land of a batch. Of the database it asks only what it must, and then it waits for what is on its way there."""
        offsets = dict(self._offsets)
        fresh = []
        for landing in batch:
            place = (landing.broker, landing.partition)
            if landing.offset >= offsets.get(place, 0):
                fresh.append(landing)
                offsets[place] = landing.offset + 1
        moved = [(*place, following) for place, following in offsets.items() if self._offsets.get(place, following) != following]
        begun = [(*place, following) for place, following in offsets.items() if place not in self._offsets]
        self._offsets = offsets
        return self._sifted(fresh)._replace(offsets=moved, begun=begun)

    def _sifted(self, landings: Sequence[Landing]) -> Ready:
        sifted = self._known.sift(landings)
        records = sifted.without(self._landed(sifted.suspects))
        landed = Landed(records.size, sifted.duplicates, sum(r.positions for r in sifted.replays if r.kind in ("outcome", "open")))
        at = to_datetime(self._clock())
        if not records.size and not sifted.replays:
            landed.batch = self._last.batch
            return Ready(landed, None, None, None, None, {}, (), (), (), at)
        kept = keep(self._texts, records, self._stored)
        before = self._last
        rows, names = table(records, before.seq, before.batch + 1, kept), named(kept, before.seq)
        found = leaves(rows)
        entry = link(before, before.seq + records.size, root(found))
        self._last = Head(entry.batch, entry.next_seq, entry.head)
        landed.batch = entry.batch
        added = sums.added(rows, kept.contents, names)
        whole = rows.append_column("leaf", pa.array(found, pa.binary()))
        return Ready(landed, whole, entry, kept.contents, names, added, (), (), sifted.replays, at)

    def _stored(self, hashes: Sequence[str]) -> dict[str, int]:
        self._ahead.settle()
        return stored(self._connection, hashes)

    def _commit(self, ready: Ready) -> None:
        if ready.rows is None and not ready.offsets and not ready.begun:
            return
        with self._transaction():
            self._write(ready)
        if ready.link is not None:
            self._head = Head(ready.link.batch, ready.link.next_seq, ready.link.head)

    def _land(self, records: Sequence[Record]) -> None:
        """Records that nobody sent, within a transaction."""
        self._write(self._sifted([Landing("", -1, -1, records)]))

    def _write(self, ready: Ready) -> None:
        write(self._connection, ready)
        self._names += ready.names.num_rows if ready.names is not None else 0
        if enough(self._names):
            sort_names(self._connection)
            self._names = 0

    def _landed(self, suspects: Sequence[tuple[int, str, int]]) -> frozenset[str]:
        """Which of the suspects are in the database. The range of their positions prunes what must be read."""
        found: list[str] = []
        if suspects:
            self._ahead.settle()
        for positioned in (False, True):
            chosen = [(id, first) for _, id, first in suspects if (first >= 0) is positioned]
            if not chosen:
                continue
            low, high = min(first for _, first in chosen), max(first for _, first in chosen)
            with self._registered("suspects", pa.table({"id": [id for id, _ in chosen]})):
                query = 'SELECT id FROM records WHERE "first" BETWEEN ? AND ? AND id IN (SELECT id FROM suspects)'
                found.extend(id for (id,) in self._connection.execute(query, [low, high]).fetchall())
        return frozenset(found)

    def _migrate(self) -> None:
        self._connection.execute(LEDGER)
        at = int(str(self._one("SELECT coalesce(max(number), 0) FROM migrations")))
        if at > MIGRATIONS[-1].number:
            newest = MIGRATIONS[-1].number
            raise Misused(f"the lineage file {self.path} has form {at}, this headwater knows up to {newest}: upgrade headwater")
        if at and at < MIGRATIONS[-1].number:  # of ten million records it takes half a minute
            records = self._one("SELECT count(*) FROM records")
            _log.warning("bringing the lineage file to a new form", file=str(self.path), form=at, to=MIGRATIONS[-1].number, records=records)
        for migration in MIGRATIONS[at:]:
            self._connection.begin()
            for statement in migration.statements:
                self._connection.execute(statement)
            done = [migration.number, migration.name, to_datetime(self._clock())]
            self._connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", done)
            if migration is MIGRATIONS[-1]:
                sort_names(self._connection)
                gather(self._connection)
                sums.begin(self._connection)
            self._connection.commit()

    def _load(self) -> None:
        """What landing must know, from the database."""
        run = self._connection.execute
        rows = run('SELECT broker, "partition", "next" FROM offsets').fetchall()
        self._offsets = {(broker, partition): following for broker, partition, following in rows}
        last = run("SELECT batch, next_seq, head FROM chain ORDER BY batch DESC LIMIT 1").fetchall()
        self._head = Head(*last[0]) if last else Head(0, 0, GENESIS)
        self._last = self._head
        self._names = waiting(self._connection)
        keys = run("SELECT key FROM contents_key").fetchall()
        if not keys:
            keys = [(self._random(KEY_BYTES),)]
            run("INSERT INTO contents_key VALUES (?)", [keys[0][0]])
        self._texts = opened(self._connection, bytes(keys[0][0]))
        self._known = known_of(self._connection)

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """What landing knows is what the database holds, also if something fails."""
        try:
            yield
        except BaseException:
            self._ahead.wait()
            self._load()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise

    @contextmanager
    def _registered(self, name: str, rows: pa.Table) -> Iterator[None]:
        self._connection.register(name, rows)
        try:
            yield
        finally:
            self._connection.unregister(name)

    def _one(self, query: str) -> object:
        return self._connection.execute(query).fetchall()[0][0]


def _is_older(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the file is one of lineage, and of a form before the newest."""
    if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'migrations'").fetchall():
        return False
    rows = connection.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchall()
    return bool(rows[0][0] < MIGRATIONS[-1].number)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
