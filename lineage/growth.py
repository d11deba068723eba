"""growth: what an event and a decision add to lineage, in bytes."""

# ruff: noqa: S608  (the SQL is put together from constants of this package)

from pathlib import Path

import duckdb
import polars as pl

from headwater.lineage.contents import REFERENCES
from headwater.lineage.name_pages import counted
from headwater.lineage.verify import Source


def growth(source: Source) -> pl.DataFrame:
    """what, things, records, texts, bytes, bytes_each, file_bytes, file_bytes_each: of events, of decisions, and of all else.

    bytes        of records, their names and the texts they refer to, as they are before the file packs them; of a text that both
                 refer to, events have it
    file_bytes   what of the file's used blocks and its write-ahead log falls to them, in proportion
    An event is a position that some flow consumed; what woke an agent and all that followed counts to the decision.
    """
    with source.cursor() as cursor:
        cursor.register("paged", counted(cursor))
        frame: pl.DataFrame = cursor.sql(_GROWTH, params=[_logged(cursor)]).pl()
    return frame


def _logged(cursor: duckdb.DuckDBPyConnection) -> int:
    """Bytes of the write-ahead log: what landed last is there, of a young database all of it."""
    rows = cursor.execute("SELECT path FROM duckdb_databases() WHERE NOT internal AND path IS NOT NULL").fetchall()
    logs = [Path(f"{path}.wal") for (path,) in rows]
    return sum(log.stat().st_size for log in logs if log.is_file())


_DECIDING = "('activation', 'retrieval', 'model', 'tool', 'note', 'ruling', 'decision', 'effect', 'review', 'verdict')"

# Fixed parts of a record: numbers, times, the leaf; the texts are counted as they are.
_GROWTH = f"""
    WITH sized AS (
        SELECT seq, held, CASE
                WHEN kind IN {_DECIDING} OR starts_with(flow, 'decide/') THEN 'decision'
                WHEN kind IN ('document', 'dead_letter', 'redrive', 'drop', 'consumed', 'absent', 'outcome') THEN 'event'
                ELSE 'other' END AS what,
            92 + strlen(id) + strlen(kind) + strlen(flow) + strlen(step) + strlen(ref) + strlen(array_to_string(parents, ''))
                + strlen(broker) + strlen(topic) + strlen(outcome) + strlen(data::VARCHAR) + coalesce(strlen(held::VARCHAR), 0) AS bytes
        FROM records),
    referred AS (
        SELECT number_of(reference) AS n, max(what) AS what
        FROM (SELECT what, unnest({REFERENCES}) AS reference FROM sized WHERE held IS NOT NULL) GROUP BY ALL),
    texts AS (
        SELECT what, count(*) AS texts, sum(strlen(body) + coalesce(strlen(hash), 0) + coalesce(strlen(salt), 0) + 16) AS bytes
        FROM referred JOIN contents USING (n) GROUP BY what),
    named AS (
        SELECT what, sum(size) AS bytes FROM (SELECT seq, 8 * many AS size FROM paged UNION ALL SELECT seq, 16 FROM names_new)
        JOIN sized USING (seq) GROUP BY what),
    things AS (
        SELECT 'event' AS what, coalesce(max(consumed), 0) AS things FROM (
            SELECT sum("count") AS consumed FROM records WHERE kind = 'consumed' AND NOT starts_with(flow, 'decide/') GROUP BY flow)
        UNION ALL SELECT 'decision', count(DISTINCT ref) FROM records WHERE kind = 'decision'),
    summed AS (
        SELECT what, count(*) AS records, sum(bytes) AS bytes FROM sized GROUP BY what),
    whole AS (
        SELECT what, coalesce(things, 0)::BIGINT AS things, records, coalesce(texts, 0)::BIGINT AS texts,
            (summed.bytes + coalesce(t.bytes, 0) + coalesce(n.bytes, 0))::BIGINT AS bytes
        FROM summed LEFT JOIN things USING (what) LEFT JOIN texts t USING (what) LEFT JOIN named n USING (what)),
    file AS (SELECT any_value(block_size * used_blocks) + $1 AS used FROM pragma_database_size() WHERE database_name <> 'temp')
    SELECT what, things, records, texts, bytes, bytes / nullif(things, 0) AS bytes_each,
        (used * (bytes / sum(bytes) OVER ()))::BIGINT AS file_bytes,
        used * (bytes / sum(bytes) OVER ()) / nullif(things, 0) AS file_bytes_each
    FROM whole, file ORDER BY CASE what WHEN 'event' THEN 0 WHEN 'decision' THEN 1 ELSE 2 END"""
