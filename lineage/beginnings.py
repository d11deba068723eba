"""beginnings: what the names begin with that are no hex digits, so that a text which begins none of them is known at once.

Such names have no order among those that are kept as numbers. So the first characters of each are kept, once, up to a number of them that
no look-up minds; a text is looked for among the records only if one of these begins as it does, or in what landed since.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this module)

import msgspec

from headwater.lineage.records import Connection

LETTERS = 6
"""As many as a text must have to be looked for by its beginning."""
MOST = 65_536
"""So many different ones; beyond, any text may begin a name, and all records are read."""

KINDS = "('document', 'dead_letter', 'activation')"
"""Of records that name what is no hex digits."""

TABLE = """CREATE TABLE IF NOT EXISTS beginnings (text VARCHAR, seq BIGINT)"""

GATHER = f"""
    INSERT INTO beginnings
    WITH until AS (SELECT coalesce(max(seq), -1) AS seq FROM records),
    told AS (
        SELECT unnest([ref, substr(ref, strpos(ref, '/') + 1), data->>'$.event', data->>'$.episode']
            || coalesce(data->>'$.events[*].id', []) || CASE kind WHEN 'activation' THEN parents ELSE [] END) AS text
        FROM records WHERE kind IN {KINDS} AND seq > (SELECT coalesce(max(seq), -1) FROM beginnings)),
    plain AS (SELECT DISTINCT replace(lower(text), '-', '') AS text FROM told WHERE text <> '')
    SELECT text, seq FROM until, (
        SELECT DISTINCT left(text, {LETTERS}) AS text FROM plain WHERE NOT regexp_matches(text, '^[0-9a-f]{{16}}')
        EXCEPT SELECT text FROM beginnings)
    UNION ALL SELECT NULL, seq FROM until"""
"""Of the records since those that were gathered before. A row without text says up to where that is."""

TOO_MANY = (
    f"DELETE FROM beginnings WHERE (SELECT count(text) FROM beginnings) > {MOST}",
    "INSERT INTO beginnings SELECT '', 0 WHERE NOT EXISTS (FROM beginnings)",
)
"""An empty text begins anything."""


def gather(connection: Connection) -> None:
    """Gather what landed since the last time, unless there were too many."""
    if connection.execute("SELECT count(*) FROM beginnings WHERE text = ''").fetchall()[0][0]:
        return
    for statement in (GATHER, *TOO_MANY):
        connection.execute(statement)


def unread(cursor: Connection, text: str) -> int:
    """The `seq` from which on records must be read for names that begin with a text: of those before it none has one."""
    begun = text.lower().replace("-", "")[:LETTERS]
    query = "SELECT count(*) FILTER (text = '' OR starts_with(text, $1)), coalesce(max(seq), -1) FROM beginnings"
    may, until = cursor.execute(query, [begun]).fetchall()[0]
    return 0 if may else int(until) + 1


def quoted(text: str) -> str:
    """How a string of JSON begins that begins with a text."""
    return msgspec.json.encode(text).decode().rstrip('"')
