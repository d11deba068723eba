"""lives: what verify checks of events that ended more than once on their way: moved to the ladder, buried, redriven (law 1).

A position that moved has one successor, which lies on the next rung and is read later. What lies on a rung was moved there. What the index
says it took has its document, what it buried its dead letter; a redrive names a dead letter, and the life it began is read.
Much of this holds of the life of a broker that goes on only; of one that is over, see `over`.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from collections.abc import Iterator

import duckdb

from headwater.lineage.event import Position
from headwater.lineage.over import ENDED, NEWEST, TAKEN
from headwater.lineage.topic import RETRY

Connection = duckdb.DuckDBPyConnection


def offences(cursor: Connection, in_flight_ok: bool, limit: int) -> Iterator[str]:
    """Sentences that name flow, place and what is wrong, the earliest first of each kind."""
    for flow, topic, partition, first, ref in cursor.execute(_NO_CLIMB, [limit]).fetchall():
        yield f"flow {flow}, {topic}/{partition}@{first}: it moved to {_short(ref)}, which is not the next rung of the retry ladder"
    for flow, topic, partition, first, before, ref in cursor.execute(_TWICE_MOVED, [limit]).fetchall():
        yield f"flow {flow}, {topic}/{partition}@{first}: one run moved {_short(before)} twice, here and to {_short(ref)}"
    for id, topic, partition, first, count in cursor.execute(_CLOSED_TWICE, [limit]).fetchall():
        yield f"dead letter {id} of {topic}/{partition}@{first}: redriven or dropped {count} times"
    for kind, id in cursor.execute(_CLOSES_NOTHING, [limit]).fetchall():
        yield f"{kind} of {id}: there is no such dead letter"
    if in_flight_ok:
        return
    for flow, topic, partition, first, ref in cursor.execute(_UNREAD, [limit]).fetchall():
        yield f"flow {flow}, {topic}/{partition}@{first}: it moved to {_short(ref)}, which was never read"
    for flow, topic, partition, first, before in cursor.execute(_FROM_NOWHERE, [limit]).fetchall():
        yield f"flow {flow}, {topic}/{partition}@{first}: {_short(before)} was moved here, but never ended there"
    for id, ref in cursor.execute(_LIFE_UNREAD, [limit]).fetchall():
        yield f"redrive of {id}: its next life at {_short(ref)} was never read"
    for kind, outcome in (("document", TAKEN), ("dead_letter", "'dead_lettered'")):
        yield from _unrecorded(cursor, kind, outcome, limit)
    yield from _unwoken(cursor, limit)


def _unrecorded(cursor: Connection, kind: str, outcome: str, limit: int) -> Iterator[str]:
    """Positions whose outcome promises a record that is not there. Only partitions in which the counts differ are looked at closer."""
    lanes = cursor.execute(_LANES.format(outcome=outcome), [kind]).fetchall()
    for broker, topic, partition in lanes[:limit]:
        query = _UNRECORDED.format(outcome=outcome)
        for flow, first, ended in cursor.execute(query, [broker, topic, partition, kind, limit]).fetchall():
            yield f"flow {flow}, {topic}/{partition}@{first}: ended {ended}, but no {kind.replace('_', ' ')} is recorded there"


def _unwoken(cursor: Connection, limit: int) -> Iterator[str]:
    """Activations that some agents have dealt with and others never saw."""
    for flow, activation, rule, key in cursor.execute(_UNWOKEN, [limit]).fetchall():
        yield f"flow {flow}: activation {activation} ({rule}/{key}) fired, but never came to it"


def _short(token: str) -> str:
    return Position.parse(token).short if token.count("/") == 3 else token or "nowhere"


_RUNG = "CASE WHEN starts_with({0}, '" + RETRY + "') THEN substr({0}, " + str(len(RETRY) + 1) + ")::INTEGER ELSE 0 END"

_MOVED = f"""
    moved AS (
        SELECT flow, broker, topic, "partition", "first", ref, broker || '/' || topic || '/' || "partition" || '/' || "first" AS place,
            split_part(ref, '/', 1) AS ref_broker, split_part(ref, '/', 2) AS ref_topic,
            try_cast(split_part(ref, '/', 3) AS INTEGER) AS ref_partition, try_cast(split_part(ref, '/', 4) AS BIGINT) AS ref_offset,
            {_RUNG.format("topic")} AS rung
        FROM records WHERE kind = 'outcome' AND outcome = 'moved' AND ref <> '')"""

_NO_CLIMB = f"""
    WITH {_MOVED} SELECT flow, topic, "partition", "first", ref FROM moved
    WHERE ref_topic <> '{RETRY}' || (rung + 1) ORDER BY ALL LIMIT ?"""

_UNREAD = f"""
    WITH {_MOVED}, read AS (
        SELECT DISTINCT broker, topic, "partition", unnest(range("first", "next")) AS at_ FROM records
        WHERE kind = 'consumed' AND starts_with(topic, '{RETRY}'))
    SELECT flow, topic, "partition", "first", ref FROM moved
    WHERE broker = {NEWEST} AND NOT EXISTS (
        FROM read r WHERE r.broker = ref_broker AND r.topic = ref_topic AND r."partition" = ref_partition AND r.at_ = ref_offset)
    ORDER BY ALL LIMIT ?"""

# What ended on a rung, with what it says it was moved from and by which run.
_ON_RUNGS = f"""
    rungs AS (
        SELECT flow, topic, "partition", "first", broker || '/' || topic || '/' || "partition" || '/' || "first" AS place,
            parents[2] AS before, data->>'$.moved_by' AS moved_by
        FROM records WHERE kind = 'outcome' AND starts_with(topic, '{RETRY}') AND len(parents) = 2)"""

# After a crash a position may end otherwise than as moved, though it had been moved before anybody was told: it must have ended at all.
_FROM_NOWHERE = f"""
    WITH {_ON_RUNGS}, came AS (SELECT *, string_split(before, '/') AS p FROM rungs)
    SELECT flow, topic, "partition", "first", before FROM came WHERE NOT EXISTS (
        FROM records r WHERE r.kind = 'outcome' AND r.flow = came.flow AND r.broker = p[1] AND r.topic = p[2]
            AND r."partition" = p[3]::INTEGER AND r."first" <= p[4]::BIGINT AND r."next" > p[4]::BIGINT)
    ORDER BY ALL LIMIT ?"""

# A crash between moving and saying so has a position moved again, by another run; one run moves it once.
_TWICE_MOVED = f"""
    WITH {_ON_RUNGS} SELECT flow, topic, "partition", "first", before, min(place) OVER lives AS other FROM rungs
    WINDOW lives AS (PARTITION BY before, moved_by) QUALIFY place <> other ORDER BY ALL LIMIT ?"""

_CLOSED_TWICE = """
    SELECT ref, any_value(d.topic), any_value(d."partition"), any_value(d."first"), count(DISTINCT r.id)
    FROM records r JOIN (SELECT ref, topic, "partition", "first" FROM records WHERE kind = 'dead_letter') d USING (ref)
    WHERE r.kind IN ('redrive', 'drop') GROUP BY ref HAVING count(DISTINCT r.id) > 1 ORDER BY ALL LIMIT ?"""

_CLOSES_NOTHING = """
    SELECT kind, ref FROM records WHERE kind IN ('redrive', 'drop') AND ref NOT IN (SELECT ref FROM records WHERE kind = 'dead_letter')
    ORDER BY ALL LIMIT ?"""

_LIFE_UNREAD = f"""
    WITH lives AS (
        SELECT ref, data->>'$.position' AS place, string_split(data->>'$.position', '/') AS p FROM records WHERE kind = 'redrive')
    SELECT ref, place FROM lives WHERE p[1] = {NEWEST} AND NOT EXISTS (
        FROM records c WHERE c.kind = 'consumed' AND c.broker = p[1] AND c.topic = p[2] AND c."partition" = p[3]::INTEGER
            AND c."first" <= p[4]::BIGINT AND c."next" > p[4]::BIGINT)
    ORDER BY ALL LIMIT ?"""

_LANES = (
    "WITH "
    + ENDED
    + """,
    wanted AS (SELECT broker, topic, "partition", count(DISTINCT at_) AS many FROM ended GROUP BY ALL),
    there AS (SELECT broker, topic, "partition", count(DISTINCT "first") AS many FROM records WHERE kind = ? GROUP BY ALL)
    SELECT broker, topic, "partition" FROM wanted LEFT JOIN there USING (broker, topic, "partition")
    WHERE broker = """
    + NEWEST
    + """ AND wanted.many <> coalesce(there.many, 0) ORDER BY ALL"""
)

_UNRECORDED = (
    "WITH "
    + ENDED
    + """
    SELECT flow, at_, outcome FROM ended e WHERE broker = ? AND topic = ? AND "partition" = ? AND NOT EXISTS (
        FROM records r WHERE r.kind = ? AND r.broker = e.broker AND r.topic = e.topic AND r."partition" = e."partition" AND r."first" = at_)
    ORDER BY at_, flow LIMIT ?"""
)

# An agent that is behind the others, or was taken out of the application, is not asked; nor one whose outcomes name no activations yet.
_UNWOKEN = f"""
    WITH woken AS (
        SELECT flow, parents[1] AS activation, outcome FROM records WHERE kind = 'outcome' AND starts_with(flow, 'decide/')),
    read AS (
        SELECT flow, broker, sum("count") AS many FROM records
        WHERE kind = 'consumed' AND starts_with(flow, 'decide/') AND broker = {NEWEST} GROUP BY ALL),
    flows AS (
        SELECT flow, broker FROM read WHERE many = (SELECT max(many) FROM read)
            AND flow NOT IN (SELECT flow FROM woken WHERE activation IS NULL AND outcome NOT IN ('dead_lettered', 'lost_with_broker'))),
    fired AS (
        SELECT DISTINCT ref, data->>'$.rule' AS rule, data->>'$.key' AS "key", split_part(parents[1], '/', 1) AS broker
        FROM records WHERE kind = 'activation')
    SELECT flows.flow, ref, rule, "key" FROM fired JOIN flows USING (broker)
    WHERE NOT EXISTS (FROM woken w WHERE w.flow = flows.flow AND w.activation = ref) ORDER BY ALL LIMIT ?"""
