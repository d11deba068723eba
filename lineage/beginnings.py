"""beginnings: what the names begin with that are no hex digits, so that a text is looked for only where names begin as it does.

Such names have no order among those that are kept as numbers. So of each stretch of records is kept with what these begin: as many
characters of each as leave no more than so many different ones. Names that grow or follow a date share most of theirs within a stretch, so
few stretches are read for a text. Where names are as good as random all are read for a text that begins as one of them.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this module; what comes from outside are numbers)

from itertools import pairwise

import msgspec

from headwater.lineage.records import Connection

STRETCH = 32_768
"""Records."""
LENGTHS = (6, 10, 13, 16, 20, 26, 32)
"""So many characters of each name of a stretch, or none."""
MOST = 1_024
"""About so many different ones of a stretch."""
ARMS = 32
"""Conditions of a query, at most: where more stretches are to be read, what lies between some is read too."""
AT_ONCE = 16
"""Stretches that are gathered by one query."""

KINDS = "('document', 'dead_letter', 'activation')"
"""Of records that name what is no hex digits."""

STATEMENTS = (
    "DROP TABLE IF EXISTS beginnings",
    # Both ends are within the stretch. `type`: the text is all that stands before documents' own names. A row without text says that all
    # records up to it were gathered.
    'CREATE TABLE IF NOT EXISTS stretches (text VARCHAR, type BOOLEAN, "first" BIGINT, "last" BIGINT)',
)

_HEX = "^[0-9a-f]{16}"
_PLAIN = "replace(lower({0}), '-', '')"
"""Case and dashes do not count; SQL's lower case of a beginning is the beginning of the lower case."""


def gather(connection: Connection) -> None:
    """Gather what landed since the last time."""
    query = """SELECT (SELECT coalesce(max("last"), -1) + 1 FROM stretches), (SELECT coalesce(max(seq), -1) + 1 FROM records)"""
    start, end = connection.execute(query).fetchall()[0]
    while start < end:
        following = min((start // STRETCH + AT_ONCE) * STRETCH, end)
        connection.execute(_gathering(), {"first": start, "next": following})
        start = following


def _gathering() -> str:
    letters = " ".join(f"WHEN approx_count_distinct(left(text, {length})) <= {MOST} THEN {length}" for length in reversed(LENGTHS))
    within = "seq >= $first AND seq < $next"
    return f"""
        INSERT INTO stretches
        WITH told AS (
            SELECT seq // {STRETCH} AS stretch, unnest([substr(ref, strpos(ref, '/') + 1), data->>'$.event']) AS text
            FROM records WHERE kind IN ('document', 'dead_letter') AND {within}
            UNION ALL SELECT seq // {STRETCH}, unnest([substr(ref, strpos(ref, '/') + 1), data->>'$.episode']
                || coalesce(data->>'$.events[*].id', []) || parents)
            FROM records WHERE kind = 'activation' AND {within}),
        plain AS (SELECT stretch, {_PLAIN.format("left(text, 96)")} AS text FROM told WHERE text <> ''),
        others AS MATERIALIZED (SELECT stretch, left(text, {LENGTHS[-1]}) AS text FROM plain WHERE NOT regexp_matches(text, '{_HEX}')),
        kept AS (SELECT stretch, CASE {letters} ELSE 0 END AS letters FROM others GROUP BY stretch),
        begun AS (
            SELECT DISTINCT stretch, left(text, letters) AS text, false AS type FROM others JOIN kept USING (stretch)
            UNION ALL SELECT DISTINCT stretch, {_PLAIN.format("text")}, true FROM (
                SELECT DISTINCT seq // {STRETCH} AS stretch, left(ref, strpos(ref, '/')) AS text
                FROM records WHERE kind IN {KINDS} AND contains(ref, '/') AND {within}))
        SELECT text, type, greatest(stretch * {STRETCH}, $first), least((stretch + 1) * {STRETCH}, $next) - 1 FROM begun
        UNION ALL SELECT NULL, false, $next - 1, $next - 1"""


def reaching(cursor: Connection, text: str) -> list[str]:
    """SQL conditions on `seq`, no two of which hold for one record: of all others none has a name that begins with a text."""
    query = f"""
        WITH asked AS (SELECT {_PLAIN.format("$1")} AS text),
        own AS (SELECT text, substr(text, strpos(text, '/') + 1) AS rest FROM asked)
        SELECT DISTINCT "first", "last" FROM stretches s, own
        WHERE CASE WHEN type THEN starts_with(s.text, own.text) ELSE starts_with(s.text, own.text) OR starts_with(own.text, s.text)
            OR starts_with(s.text, rest) OR starts_with(rest, s.text) END ORDER BY ALL"""
    found = _joined(cursor.execute(query, [text]).fetchall())
    until = cursor.execute('SELECT coalesce(max("last"), -1) FROM stretches').fetchall()[0][0]
    return [*(f"seq BETWEEN {first} AND {last}" for first, last in found), f"seq > {until}"]


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same stretches and, where there are too many, what lies between those nearest to each other."""
    gaps = sorted((later[0] - earlier[1] for earlier, later in pairwise(stretches)), reverse=True)
    apart = gaps[ARMS - 2] if len(gaps) >= ARMS else 1
    found: list[tuple[int, int]] = []
    for first, last in stretches:
        if found and first - found[-1][1] <= apart:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def quoted(text: str) -> str:
    """How a string of JSON begins that begins with a text."""
    return msgspec.json.encode(text).decode().rstrip('"')
