"""guard: other people's SQL, read-only, beside the running writer.

Five walls, for none alone is enough (DuckDB calls `WITH x AS (DELETE … RETURNING *) SELECT …` a SELECT):
one statement, of type SELECT · table functions from a list, for some take raw pointers or run text as SQL · a read-only transaction ·
no files, no extensions, locked settings, for the whole database (`store.open_database`) · limits on time, and on
memory and disk for all queries together.
"""



import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import msgspec
import pyarrow as pa

from headwater.lineage.errors import Forbidden, Misused, Unavailable
from headwater.lineage.limits import TIME_LIMIT_S
from headwater.lineage.verify import Source

Connection = duckdb.DuckDBPyConnection

ROWS_A_BATCH = 10_000

TABLE_FUNCTIONS = frozenset(
    ("unnest", "range", "generate_series", "json_each", "json_tree", "repeat", "histogram", "summary", "show", "describe",
     "duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_table_info")
)  # fmt: skip
FORBIDDEN_FUNCTIONS = frozenset(("write_log", "nextval", "setval", "setseed", "sleep_ms", "json_execute_serialized_sql"))


def check(cursor: Connection, query: str) -> str:
    """The query, if it is one statement that only reads. Raises Misused (no SQL), Forbidden."""
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise Misused(f"the query is no SQL: {error}") from None
    if len(statements) != 1:
        raise Misused(f"the query holds {len(statements)} statements; send one SELECT")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        if kind == duckdb.StatementType.MULTI:
            raise Forbidden("PIVOT is refused where it must look for its columns first: name them, PIVOT … ON column IN ('a', 'b') …")
        raise Forbidden(f"a {kind.name} statement is refused: lineage is read-only, send one SELECT (or FROM, WITH, DESCRIBE)")
    text = statements[0].query.strip().rstrip(";")
    for name, is_table in _functions(_tree(cursor, text)):
        if (is_table and name not in TABLE_FUNCTIONS) or name in FORBIDDEN_FUNCTIONS:
            raise Forbidden(f"the function {name} is refused here; table functions that may be used: {', '.join(sorted(TABLE_FUNCTIONS))}")
    return text


class Stop:
    """Ends a query from another thread, whether it runs already or not."""

    def __init__(self) -> None:
        self.stopped = False
        self._interrupt: Callable[[], None] | None = None

    def follow(self, interrupt: Callable[[], None]) -> None:
        """What ends the query that begins now."""
        self._interrupt = interrupt
        if self.stopped:
            interrupt()

    def now(self) -> None:
        self.stopped = True
        if self._interrupt is not None:
            self._interrupt()

    def done(self) -> None:
        """The query is over."""
        self._interrupt = None


@contextmanager
def reading(
    source: Source, query: str, *, time_limit_s: float = TIME_LIMIT_S, stop: Stop | None = None
) -> Iterator[pa.RecordBatchReader]:
    """The answer to a query as a stream of Arrow batches, over one snapshot; `stop` may end it.

    Raises Misused, Forbidden; Unavailable if its time is up, it wants too much memory, or it was stopped.
    """
    cursor = source.cursor()
    stop = stop or Stop()
    expired = threading.Event()

    def interrupt() -> None:
        expired.set()
        cursor.interrupt()

    timer = threading.Timer(time_limit_s, interrupt)
    timer.daemon = True
    try:
        text = check(cursor, query)
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        timer.start()
        stop.follow(cursor.interrupt)
        if stop.stopped:
            raise Unavailable("the query was cancelled")
        yield cursor.sql(text).to_arrow_reader(ROWS_A_BATCH)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if expired.is_set():
            raise Unavailable(f"the query ran longer than {time_limit_s:g} s and was stopped; ask for less, or narrow it by time") from None
        if stop.stopped:
            raise Unavailable("the query was cancelled") from None
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in str(error):
            raise Unavailable(f"the query needs more memory than it may have; ask for less, or narrow it ({_brief(error)})") from None
        raise Misused(f"the query failed: {error}") from None
    finally:
        timer.cancel()
        stop.done()
        cursor.close()


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def _tree(cursor: Connection, text: str) -> Any:
    tree = msgspec.json.decode(cursor.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0][0])
    if tree.get("error"):
        raise Forbidden(f"this statement cannot be examined and is refused: {tree.get('error_message', 'unknown form')}")
    return tree


def _functions(node: Any) -> Iterator[tuple[str, bool]]:
    """Every function a statement calls, and whether as a table."""
    if isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            yield _name(node.get("function")), True
        elif node.get("class") == "FUNCTION":
            yield _name(node), False
        for value in node.values():
            yield from _functions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _functions(value)


def _name(function: Any) -> str:
    return str(function.get("function_name", "")).lower() if isinstance(function, dict) else ""
