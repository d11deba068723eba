"""verdicts: what verify checks of reviews. A verdict has its review, one counts, and what a review held back waits for its approval."""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

from collections.abc import Iterator

import duckdb

from headwater.lineage.over import NEWEST

Connection = duckdb.DuckDBPyConnection


def offences(cursor: Connection, in_flight_ok: bool, limit: int) -> Iterator[str]:
    """Sentences that name the review, its agent and what is wrong, in the order of their ids.

    Records of one decision may land apart: what is missing is an offence only once nothing is on its way (`in_flight_ok` is false).
    """
    for review, agent, said in cursor.execute(_COUNTED_TWICE, [limit]).fetchall():
        yield f"agent {agent}, review {review}: verdicts both counted: {said}; a review is judged once"
    for review, agent, effect, target in cursor.execute(_TOO_EARLY, [limit]).fetchall():
        yield f"agent {agent}, review {review}: effect {effect} ({target}) happened before it was approved"
    if in_flight_ok:
        return
    for review, agent, effect, target in cursor.execute(_UNAPPROVED, [limit]).fetchall():
        yield f"agent {agent}, review {review}: effect {effect} ({target}) happened, but no verdict approved it"
    for review, agent, verdict in cursor.execute(_ASKED_NEVER, [limit]).fetchall():
        yield f"agent {agent}, review {review}: was {verdict}, but no such review is recorded"
    for decision, flow, outcome, topic, partition, first in cursor.execute(_ENDED_UNJUDGED, [limit]).fetchall():
        yield f"flow {flow}, {topic}/{partition}@{first}: ended {outcome} by decision {decision}, but no verdict that counted is recorded"


_COUNTED = """
    counted AS (
        SELECT ref AS review, id, data->>'$.agent' AS agent, data->>'$.decision' AS decision, data->>'$.verdict' AS verdict,
            data->>'$.by' AS "by", (data->>'$.counted')::BIGINT AS counted_at
        FROM records WHERE kind = 'verdict' AND (data->>'$.accepted')::BOOLEAN)"""

# What each review holds back: all effects of a decision that asked before it did anything; of the fate of a call, what follows the call.
_HELD = f"""
    {_COUNTED},
    calls AS (SELECT ref AS effect, (data->>'$.ordinal')::INTEGER AS ordinal FROM records WHERE kind = 'effect'),
    asked AS (
        SELECT DISTINCT r.ref AS review, r.parents[1] AS decision, r.data->>'$.agent' AS agent,
            CASE WHEN (r.data->>'$.effect') IS NULL THEN -1 ELSE calls.ordinal END AS behind
        FROM records r LEFT JOIN calls ON calls.effect = r.data->>'$.effect' WHERE r.kind = 'review'),
    held AS (
        SELECT DISTINCT asked.*, e.ref AS effect, e.data->>'$.target' AS target, (e.data->>'$.sent')::BIGINT AS sent
        FROM records e JOIN asked ON asked.decision = e.parents[1] AND (e.data->>'$.ordinal')::INTEGER > behind
        WHERE e.kind = 'effect')"""

_COUNTED_TWICE = f"""
    WITH {_COUNTED}
    SELECT review, any_value(agent), string_agg(verdict || ' by ' || coalesce(nullif("by", ''), 'nobody'), ', ' ORDER BY id)
    FROM counted GROUP BY review HAVING count(DISTINCT id) > 1 ORDER BY ALL LIMIT ?"""

_TOO_EARLY = f"""
    WITH {_HELD},
    approved AS (SELECT review, min(counted_at) AS counted_at FROM counted WHERE verdict = 'approved' GROUP BY review)
    SELECT review, agent, effect, target FROM held JOIN approved USING (review) WHERE sent < counted_at ORDER BY ALL LIMIT ?"""

_UNAPPROVED = f"""
    WITH {_HELD}
    SELECT review, agent, effect, target FROM held
    WHERE review NOT IN (SELECT review FROM counted WHERE verdict = 'approved')
        AND decision IN (SELECT ref FROM records WHERE kind = 'outcome' AND broker = {NEWEST})
    ORDER BY ALL LIMIT ?"""

_ASKED_NEVER = f"""
    WITH {_COUNTED}
    SELECT review, agent, verdict FROM counted
    WHERE review NOT IN (SELECT ref FROM records WHERE kind = 'review')
        AND decision IN (SELECT ref FROM records WHERE kind = 'outcome' AND broker = {NEWEST})
    ORDER BY ALL LIMIT ?"""

# A question too large to be asked ends declined without one.
_ENDED_UNJUDGED = f"""
    WITH {_COUNTED}
    SELECT ref, flow, outcome, topic, "partition", "first" FROM records
    WHERE kind = 'outcome' AND starts_with(flow, 'decide/') AND outcome IN ('approved', 'declined', 'expired') AND broker = {NEWEST}
        AND (outcome = 'approved' OR ref IN (SELECT parents[1] FROM records WHERE kind = 'review'))
        AND NOT EXISTS (FROM counted c WHERE c.decision = records.ref AND c.verdict = records.outcome)
    ORDER BY ALL LIMIT ?"""
