"""former: what decisions of former broker lives say that agents still go by: what was spent on a day, and what they remember."""

from collections.abc import Iterator
from typing import NamedTuple

from headwater.lineage.verify import Source


class Spending(NamedTuple):
    """What an agent spent on one UTC day, over all journals of former lives; agent as the budget's owner."""

    agent: str
    tokens: float
    cost: float


class Remembered(NamedTuple):
    """The newest memory under one correlation id for one key: two JSON texts, as the decision's record has them.

    lapsed   whether it is told already that nothing came which it waited for
    """

    agent: str
    kept: str
    values: str
    lapsed: bool


def spent_before(source: Source, broker: str, day: int) -> Iterator[Spending]:
    """What was spent on `day` (days since 1970) in other lives than that of `broker`."""
    with source.cursor() as cursor:
        rows = cursor.execute(_SPENT, {"broker": broker, "day": day}).fetchall()
    return (Spending(*row) for row in rows)


def remembered_before(source: Source, broker: str, now: int) -> Iterator[Remembered]:
    """What is still kept at `now` (µs since 1970) and was last changed in another life than that of `broker`."""
    with source.cursor() as cursor:
        rows = cursor.execute(_REMEMBERED, {"broker": broker, "now": now}).fetchall()
    return (Remembered(*row) for row in rows)


# A journal is one agent and partition of one life; its totals only grow within a day. A day's decisions are recorded soon after it began.
_SPENT = """
    WITH told AS (
        SELECT split_part(data->>'$.position', '/', 1) AS broker, data->>'$.agent' AS woken,
            split_part(data->>'$.position', '/', 3) AS part, unnest(json_keys(data, '$.spent')) AS agent, data
        FROM records
        WHERE kind = 'decision' AND logged >= make_timestamptz($day::BIGINT * 86400000000) AND coalesce(data->>'$.position', '') <> ''),
    totals AS (
        SELECT broker, woken, part, agent, max((data->'$.spent'->agent->>'$.tokens')::DOUBLE) AS tokens,
            max((data->'$.spent'->agent->>'$.cost')::DOUBLE) AS cost
        FROM told WHERE broker <> $broker AND (data->'$.spent'->agent->>'$.day')::BIGINT = $day GROUP BY ALL)
    SELECT agent, sum(tokens), sum(cost) FROM totals GROUP BY agent ORDER BY agent"""

# A memory that was erased is none.
_REMEMBERED = """
    WITH told AS (
        SELECT data->>'$.agent' AS agent, data->'$.kept' AS kept, split_part(data->>'$.position', '/', 1) AS broker, seq,
            CASE WHEN c.n IS NOT NULL AND c.salt IS NULL THEN '{}'::JSON ELSE coalesce(c.body::JSON, data->'$.remembered') END AS values_
        FROM records LEFT JOIN contents c ON c.n = number_of(held->>'$.remembered')
        WHERE kind = 'decision' AND (data->'$.kept') IS NOT NULL
            AND NOT coalesce(list_has_any((data->'$.cut')::VARCHAR[], ['kept', 'remembered']), false)),
    newest AS (
        SELECT * FROM told
        QUALIFY row_number() OVER (PARTITION BY agent, kept->>'$.correlation', kept->>'$.key' ORDER BY seq DESC) = 1)
    SELECT agent, kept::VARCHAR, values_::VARCHAR, EXISTS (
        FROM records r WHERE r.kind = 'note' AND r.ref = (kept->>'$.suspended.decision') || ':lapsed')
    FROM newest WHERE broker <> $broker AND (kept->>'$.until')::BIGINT > $now
        AND (values_::VARCHAR <> '{}' OR (kept->'$.suspended') IS NOT NULL)
    ORDER BY seq"""
