"""verify: laws 1 and 8 as SQL over what has landed.

Law 1, conservation: per flow, broker, topic and partition, consumed offsets leave no hole, and each ended exactly once or is open.
Law 8, tamper evidence: no record was changed, dropped, inserted or reordered.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import duckdb
import msgspec

from headwater.lineage import lives, over, tampering, verdicts
from headwater.lineage.chain import Head

Connection = duckdb.DuckDBPyConnection


class Source(Protocol):
    """A Store or a DuckDB connection."""

    def cursor(self) -> Connection: ...


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What verifying found.

    offences   each a sentence that names flow, place and what is wrong; at most `limit`, the earliest first
    totals     flow → outcome → positions; `waiting` and `in_flight` are open
    consumed   flow → positions read;  absent: flow → offsets that hold no message
    replayed   positions whose second outcome was cut off, for a flow repeated itself after a crash
    head       the chain's head, to be kept elsewhere
    signed     records up to the last signed head that was kept: tampering with them is found, whoever did it
    key        the public key that signed it, as hex
    """

    ok: bool
    offences: tuple[str, ...]
    totals: dict[str, dict[str, int]]
    consumed: dict[str, int]
    absent: dict[str, int]
    replayed: int
    records: int
    batches: int
    head: str
    signed: int = 0
    key: str = ""


def verify(source: Source, *, in_flight_ok: bool, kept: Sequence[Head] = (), limit: int = 20) -> Verdict:
    """Check laws 1 and 8 over one snapshot of the database.

    `in_flight_ok`: flows are running, so a consumed position without an outcome is on its way; else it is an offence.
    `kept`: heads kept outside the database, which the chain must contain.
    """
    with source.cursor() as cursor:
        cursor.begin()
        try:
            offences = (tampering.offences(cursor, kept), _conserved(cursor, in_flight_ok, limit), _decided(cursor, in_flight_ok, limit))
            return _verdict(cursor, [*itertools.chain.from_iterable(offences)][:limit])
        finally:
            cursor.rollback()


def _verdict(cursor: Connection, offences: list[str]) -> Verdict:
    totals: dict[str, dict[str, int]] = {}
    for flow, outcome, positions in cursor.execute(_TOTALS).fetchall():
        totals.setdefault(flow, {})[outcome] = int(positions)
    for flow, waiting, in_flight in cursor.execute(_OPEN).fetchall():
        totals.setdefault(flow, {}).update({name: int(n) for name, n in (("waiting", waiting), ("in_flight", in_flight)) if n})
    count = "SELECT flow, sum(\"count\") FROM records WHERE kind = ? GROUP BY flow ORDER BY flow"
    records, batches, head = cursor.execute(_SIZE).fetchall()[0]
    return Verdict(
        ok=not offences,
        offences=tuple(offences),
        totals=totals,
        consumed={flow: int(n) for flow, n in cursor.execute(count, ["consumed"]).fetchall()},
        absent={flow: int(n) for flow, n in cursor.execute(count, ["absent"]).fetchall()},
        replayed=int(cursor.execute("SELECT coalesce(sum(positions), 0) FROM replays WHERE kind IN ('outcome', 'open')").fetchall()[0][0]),
        records=records,
        batches=batches,
        head=head,
    )


def _conserved(cursor: Connection, in_flight_ok: bool, limit: int) -> Iterator[str]:
    for row in cursor.execute(_SEGMENTS_WRONG, {"in_flight_ok": in_flight_ok, "limit": limit}).fetchall():
        flow, topic, partition, first, following, wrong = row
        yield _SENTENCES[wrong](f"flow {flow}, {_span(topic, partition, first, following)}")
    for flow, kind, topic, partition, counted, spanned in cursor.execute(_COUNTS_WRONG, [limit]).fetchall():
        yield (
            f"flow {flow}, {topic}/{partition}: the {kind} records count {counted} messages over {spanned} offsets: "
            f"{'one was reported twice' if counted > spanned else 'one is missing'}"
        )
    for flow, kind, topic, partition, first, following in cursor.execute(_SAID_TWICE, [limit]).fetchall():
        yield f"flow {flow}, {_span(topic, partition, first, following)}: one run of the flow reports {kind} twice for it"
    yield from lives.offences(cursor, in_flight_ok, limit)
    yield from over.offences(cursor, limit)
    for flow, topic, partition, first, following, ref in cursor.execute(_MOVED_WRONG, [limit]).fetchall():
        why = f"two positions name {ref} as their successor" if ref else "it was moved, but no successor is named"
        yield f"flow {flow}, {_span(topic, partition, first, following)}: {why}"


def _decided(cursor: Connection, in_flight_ok: bool, limit: int) -> Iterator[str]:
    for activation, agent, first, second in cursor.execute(_DECIDED_TWICE, [limit]).fetchall():
        yield f"agent {agent} decided activation {activation} twice: {first} and {second}"
    yield from verdicts.offences(cursor, in_flight_ok, limit)
    if in_flight_ok:
        return
    for flow, topic, partition, first, outcome, ref in cursor.execute(_UNDECIDED, [limit]).fetchall():
        what = f"decision {ref}, which has no record" if ref else "no decision"
        yield f"flow {flow}, {topic}/{partition}@{first}: ended {outcome} by {what}"


def _span(topic: str, partition: int, first: int, following: int) -> str:
    return f"{topic}/{partition}@{first}" + ("" if following == first + 1 else f" to {following - 1}")


_SENTENCES: dict[str, Callable[[str], str]] = {
    "consumed twice": lambda where: f"{where}: consumed twice",
    "ended twice": lambda where: f"{where}: two outcomes",
    "hole": lambda where: f"{where}: neither consumed nor absent, between offsets that are",
    "unended": lambda where: f"{where}: consumed, but without an outcome",
    "unconsumed": lambda where: f"{where}: has an outcome, but was never consumed",
    "absent": lambda where: f"{where}: has an outcome, but holds no message",
}

# Each range is two marks, at its first offset and after its last; running sums over the marks say, for every stretch between two
# neighbouring marks, how often it was consumed (c), absent (a), closed (o) and left waiting (w).
_SEGMENTS = """
    marks AS (
        SELECT flow, broker, topic, "partition", kind, outcome, unnest(["first", "next"]) AS at_, unnest([1, -1]) AS d
        FROM records WHERE kind IN ('consumed', 'absent', 'outcome')),
    steps AS (
        SELECT flow, broker, topic, "partition", at_,
            sum(d) FILTER (kind = 'consumed') AS c, sum(d) FILTER (kind = 'absent') AS a,
            sum(d) FILTER (kind = 'outcome' AND outcome NOT IN ('waiting', 'retrying')) AS o,
            sum(d) FILTER (kind = 'outcome' AND outcome IN ('waiting', 'retrying')) AS w
        FROM marks GROUP BY ALL),
    segments AS (
        SELECT flow, broker, topic, "partition", at_ AS "first", lead(at_) OVER lane AS "next",
            coalesce(sum(c) OVER lane, 0) AS c, coalesce(sum(a) OVER lane, 0) AS a,
            coalesce(sum(o) OVER lane, 0) AS o, coalesce(sum(w) OVER lane, 0) AS w
        FROM steps WINDOW lane AS (PARTITION BY flow, broker, topic, "partition" ORDER BY at_)
        QUALIFY "next" IS NOT NULL)"""

# While flows run, an outcome may land before the run it belongs to, but only beyond the end of what landed as consumed.
_SEGMENTS_WRONG = f"""
    WITH {_SEGMENTS},
    ends AS (
        SELECT *, max("next") FILTER (c > 0) OVER (PARTITION BY flow, broker, topic, "partition") AS consumed_to FROM segments)
    SELECT flow, topic, "partition", "first", "next",
        CASE WHEN c > 1 THEN 'consumed twice' WHEN o > 1 THEN 'ended twice'
            WHEN o + w > 0 AND c = 0 AND a > 0 THEN 'absent'
            WHEN o + w > 0 AND c = 0 AND NOT ($in_flight_ok AND "first" >= coalesce(consumed_to, 0)) THEN 'unconsumed'
            WHEN c = 0 AND a = 0 AND o + w = 0 THEN 'hole'
            WHEN c = 1 AND a = 0 AND o + w = 0 AND NOT $in_flight_ok THEN 'unended' END AS wrong
    FROM ends WHERE wrong IS NOT NULL ORDER BY flow, topic, "partition", "first" LIMIT $limit"""

_COUNTS_WRONG = f"""
    WITH {_SEGMENTS},
    levels AS (UNPIVOT segments ON c AS consumed, o AS outcome, w AS waiting INTO NAME kind VALUE level),
    spans AS (
        SELECT flow, broker, topic, "partition", kind, sum("next" - "first") AS spanned FROM levels WHERE level > 0 AND a = 0 GROUP BY ALL),
    counts AS (
        SELECT flow, broker, topic, "partition", CASE WHEN outcome IN ('waiting', 'retrying') THEN 'waiting' ELSE kind END AS kind,
            sum("count") AS counted
        FROM records WHERE kind IN ('consumed', 'outcome') GROUP BY ALL)
    SELECT flow, kind, topic, "partition", counted::BIGINT, coalesce(spanned, 0)::BIGINT
    FROM counts LEFT JOIN spans USING (flow, broker, topic, "partition", kind)
    WHERE counted <> coalesce(spanned, 0) ORDER BY ALL LIMIT ?"""

_OPEN = f"""
    WITH {_SEGMENTS}
    SELECT flow, coalesce(sum("next" - "first") FILTER (o = 0 AND w > 0), 0),
        coalesce(sum("next" - "first") FILTER (c > 0 AND a = 0 AND o = 0 AND w = 0), 0)
    FROM segments GROUP BY flow ORDER BY flow"""

_TOTALS = """
    SELECT flow, outcome, sum("count") FROM records WHERE kind = 'outcome' AND outcome NOT IN ('waiting', 'retrying')
    GROUP BY flow, outcome ORDER BY flow, 3 DESC, outcome"""

_SIZE = """
    SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM chain), coalesce((SELECT arg_max(head, batch) FROM chain), '')"""

_SAID_TWICE = """
    SELECT flow, CASE kind WHEN 'outcome' THEN 'an outcome' WHEN 'open' THEN 'an open outcome' ELSE kind END,
        topic, "partition", "first", "next"
    FROM replays WHERE within ORDER BY ALL LIMIT ?"""

_MOVED_WRONG = """
    SELECT flow, topic, "partition", "first", "next", ref FROM records WHERE kind = 'outcome' AND outcome = 'moved'
    QUALIFY ref = '' OR "count" <> 1 OR count(*) OVER (PARTITION BY ref) > 1 ORDER BY ALL LIMIT ?"""

_DECIDED_TWICE = """
    SELECT data->>'$.activation' AS activation, data->>'$.agent' AS agent, min(ref), max(ref) FROM records WHERE kind = 'decision'
    GROUP BY ALL HAVING count(DISTINCT ref) > 1 ORDER BY ALL LIMIT ?"""

_UNDECIDED = """
    SELECT flow, topic, "partition", "first", outcome, ref FROM records
    WHERE kind = 'outcome' AND starts_with(flow, 'decide/') AND outcome IN ('acted', 'waiting')
        AND (ref = '' OR ref NOT IN (SELECT ref FROM records WHERE kind = 'decision'))
    ORDER BY ALL LIMIT ?"""
