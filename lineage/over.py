"""over: what verify checks of a broker's life that is over, and which lives those are.

When a broker's life ends, what lay in its lineage topic beyond the point up to which it was landed is lost with it; so is what was never
told. The store closes every position of that life that it can tell of as `lost_with_broker`, and lands a record `life` that says so. From
then on a record may be missing if, and only if, whoever owed it died before telling: a flow tells a position's facts before its outcome,
and the lineage topic is landed in order. So where the outcome of that very flow landed, its facts must have landed too.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from collections.abc import Iterator

import duckdb

from headwater.lineage.topic import ACTIVATIONS

Connection = duckdb.DuckDBPyConnection

_SEEN = "SELECT broker, max(seq) AS last FROM records WHERE kind = 'consumed' GROUP BY broker"
OVER = f"(SELECT ref FROM records l LEFT JOIN ({_SEEN}) s ON s.broker = l.ref WHERE l.kind = 'life' AND l.seq > coalesce(s.last, -1))"
"""The brokers whose life is over. One that is read again (an application may go back to a former cluster) lives again."""

NEWEST = f"""(SELECT broker FROM (
    SELECT arg_max(broker, seq) AS broker FROM records
    WHERE kind = 'consumed' AND NOT (starts_with(flow, 'bridge/') AND ends_with(flow, '/receive'))) WHERE broker NOT IN {OVER})"""
"""The broker whose life goes on, if it was read at all. What bridges receive lies at brokers of other regions."""


def offences(cursor: Connection, limit: int) -> Iterator[str]:
    """Sentences about what must have landed of lives that are over, and did not."""
    if not cursor.execute(f"SELECT count(*) FROM {OVER}").fetchall()[0][0]:
        return
    for kind, taken in (("document", TAKEN), ("dead_letter", "'dead_lettered'")):
        query = _UNRECORDED.format(outcome=taken)
        for flow, topic, partition, first, ended in cursor.execute(query, [kind, limit]).fetchall():
            yield f"flow {flow}, {topic}/{partition}@{first}: ended {ended}, but no {kind.replace('_', ' ')} is recorded there"
    for flow, activation, rule, key in cursor.execute(_PASSED_OVER, [limit]).fetchall():
        yield f"flow {flow}: activation {activation} ({rule}/{key}) fired, but never came to it, though a later one did"


TAKEN = "'indexed', 'deleted', 'stale', 'unchanged'"

# A position on a topic, or the life that an outcome on a rung belongs to. `detect` tells of dead letters that `index` buries.
ENDED = """
    ended AS (
        SELECT flow, broker, topic, "partition", unnest(range("first", "next")) AS at_, outcome FROM records
        WHERE kind = 'outcome' AND outcome IN ({outcome}) AND len(parents) < 2
        UNION ALL
        SELECT flow, p[1], p[2], p[3]::INTEGER, p[4]::BIGINT, outcome FROM (
            SELECT flow, outcome, string_split(parents[1], '/') AS p FROM records
            WHERE kind = 'outcome' AND outcome IN ({outcome}) AND len(parents) = 2))"""

# What `detect` found unreadable is buried by `index`, which owes nothing where it told nothing. (Of a topic that is not indexed `detect`
# owes the letter itself. Which topics those are, a short life does not say: there a letter that is missing is not missed.)
_UNRECORDED = (
    "WITH "
    + ENDED
    + f""",
    over_ AS (SELECT * FROM ended WHERE broker IN {OVER}),
    told AS (
        SELECT broker, topic, "partition", "first", "next" FROM records
        WHERE kind = 'outcome' AND flow = 'index' AND outcome <> 'lost_with_broker')
    SELECT flow, topic, "partition", at_, outcome FROM over_ e
    WHERE NOT EXISTS (
            FROM records r WHERE r.kind = ? AND r.broker = e.broker AND r.topic = e.topic AND r."partition" = e."partition"
                AND r."first" = e.at_)
        AND (flow <> 'detect' OR EXISTS (
            FROM told t WHERE t.broker = e.broker AND t.topic = e.topic AND t."partition" = e."partition"
                AND t."first" <= e.at_ AND t."next" > e.at_))
    ORDER BY topic, "partition", at_, flow LIMIT ?"""
)

# Activations of one rule and key lie in one partition, in the order of their times. So if a later one came to an agent, an earlier one must
# have come too, or be among the positions of which that agent told nothing.
_PASSED_OVER = f"""
    WITH woken AS (
        SELECT flow, broker, "count" AS many, outcome, parents[1] AS activation FROM records
        WHERE kind = 'outcome' AND starts_with(flow, 'decide/') AND topic = '{ACTIVATIONS}' AND broker IN {OVER}),
    unnamed AS (
        SELECT flow, broker, sum(many) FILTER (activation IS NULL) AS many FROM woken GROUP BY ALL),
    fired AS (
        SELECT DISTINCT ref, data->>'$.rule' AS rule, data->>'$.key' AS "key", "time" AS at_, split_part(parents[1], '/', 1) AS broker
        FROM records WHERE kind = 'activation'),
    latest AS (
        SELECT flow, w.broker, rule, "key", max(at_) AS at_ FROM woken w JOIN fired f ON f.ref = w.activation GROUP BY ALL),
    missing AS (
        SELECT flow, broker, ref, rule, "key" FROM fired f JOIN latest l USING (broker, rule, "key")
        WHERE f.at_ < l.at_ AND NOT EXISTS (FROM woken w WHERE w.flow = l.flow AND w.activation = f.ref))
    SELECT flow, ref, rule, "key" FROM missing JOIN unnamed USING (flow, broker)
    QUALIFY count(*) OVER (PARTITION BY flow, broker) > coalesce(many, 0) ORDER BY ALL LIMIT ?"""
