"""growth: what an event and a decision add to lineage, in bytes."""

# ruff: noqa: S608  (the SQL is put together from constants of this package)

from pathlib import Path

import duckdb
import polars as pl

from headwater.lineage.sums import NAME
from headwater.lineage.verify import Source


def growth(source: Source) -> pl.DataFrame:
    """what, things, records, texts, bytes, bytes_each, file_bytes, file_bytes_each: of events, of decisions, and of all else.

    bytes        of records, their names and their texts, as they are before the file packs them; a document's text falls to events
                 also where a decision's search told of it
    file_bytes   what of the file's used blocks and its write-ahead log falls to them, in proportion
    An event is a position that some flow consumed; what woke an agent and all that followed counts to the decision. What was removed
    counts with what stands in its place. It is answered from `sums`; only things are counted.
    """
    with source.cursor() as cursor:
        frame: pl.DataFrame = cursor.sql(_GROWTH, params=[_logged(cursor)]).pl()
    return frame


def _logged(cursor: duckdb.DuckDBPyConnection) -> int:
    """Bytes of the write-ahead log: what landed last is there, of a young database all of it."""
    rows = cursor.execute("SELECT path FROM duckdb_databases() WHERE NOT internal AND path IS NOT NULL").fetchall()
    logs = [Path(f"{path}.wal") for (path,) in rows]
    return sum(log.stat().st_size for log in logs if log.is_file())


_GROWTH = f"""
    WITH things AS (
        SELECT 'event' AS what, coalesce(max(consumed), 0) AS things FROM (
            SELECT sum("count") AS consumed FROM records WHERE kind = 'consumed' AND NOT starts_with(flow, 'decide/') GROUP BY flow)
        UNION ALL SELECT 'decision', count(DISTINCT ref) FROM records WHERE kind = 'decision'),
    whole AS (
        SELECT what, coalesce(things, 0)::BIGINT AS things, records, texts, record_bytes + text_bytes + {NAME} * names AS bytes
        FROM sums LEFT JOIN things USING (what) WHERE records > 0),
    file AS (SELECT any_value(block_size * used_blocks) + $1 AS used FROM pragma_database_size() WHERE database_name <> 'temp')
    SELECT what, things, records, texts, bytes, bytes / nullif(things, 0) AS bytes_each,
        (used * (bytes / sum(bytes) OVER ()))::BIGINT AS file_bytes,
        used * (bytes / sum(bytes) OVER ()) / nullif(things, 0) AS file_bytes_each
    FROM whole, file ORDER BY CASE what WHEN 'event' THEN 0 WHEN 'decision' THEN 1 ELSE 2 END"""
