"""Named questions about lineage, each a function of a Store or a DuckDB connection."""

from typing import NamedTuple

import msgspec
import polars as pl

from headwater.lineage.errors import NotFound
from headwater.lineage.event import Position
from headwater.lineage.names import Connection, lying_at, mentioning
from headwater.lineage.record import Record
from headwater.lineage.seen import Why as Why
from headwater.lineage.verify import Source
from headwater.lineage.why import why as why

RECENT = 1_000_000
"""Records that a list of what is new looks back on."""


class Freshness(msgspec.Struct, frozen=True):
    """From a message's append to its document being searchable, in milliseconds; None if there was none."""

    documents: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Stage(NamedTuple):
    """A stage of an event's life: reached `ms` after the one before, at wall clock `at` (µs since 1970)."""

    name: str
    ms: float
    at: int


class Showpiece(NamedTuple):
    """A decision worth showing, and the token of the newest event that woke it."""

    decision: str
    position: str


def freshness(source: Source) -> Freshness:
    """How fresh the index was, over all documents that landed."""
    query = "SELECT count(*), quantile_cont(ms, 0.5), quantile_cont(ms, 0.99), max(ms) FROM freshness"
    with source.cursor() as cursor:
        return Freshness(*cursor.execute(query).fetchall()[0])


def freshness_by_topic(source: Source) -> pl.DataFrame:
    """topic, documents, p50_ms, p99_ms, max_ms, newest: from append to searchable; `newest` is the wall clock of the last one."""
    query = """
        SELECT topic, count(*) AS documents, quantile_cont(ms, 0.5) AS p50_ms, quantile_cont(ms, 0.99) AS p99_ms, max(ms) AS max_ms,
            max(settled) AS newest FROM freshness GROUP BY topic ORDER BY topic"""
    return _frame(source, query)


def conservation(source: Source) -> pl.DataFrame:
    """flow, topic, outcome, positions: how what was consumed ended."""
    query = (
        'SELECT flow, topic, outcome, sum("count")::BIGINT AS positions FROM outcomes GROUP BY ALL '
        "UNION ALL SELECT flow, topic, 'consumed', sum(\"count\")::BIGINT FROM consumed GROUP BY ALL ORDER BY ALL"
    )
    return _frame(source, query)


def cost(source: Source) -> pl.DataFrame:
    """agent, version, decisions, unit, total, mean: what deciding took, per named amount."""
    query = """
        SELECT agent, version, count(*) AS decisions, unit, sum((cost->>unit)::DOUBLE) AS total, avg((cost->>unit)::DOUBLE) AS mean
        FROM decisions, unnest(json_keys(cost)) AS t(unit) GROUP BY agent, version, unit ORDER BY ALL"""
    return _frame(source, query)


def decisions(
    source: Source, *, limit: int = 50, skip: int = 0, agent: str | None = None, key: str | None = None, outcome: str | None = None
) -> pl.DataFrame:
    """The newest decisions but for the first `skip`, filtered: the columns of the view `decisions`."""
    query = (
        "SELECT * FROM decisions WHERE ($1 IS NULL OR agent = $1) AND ($2 IS NULL OR \"key\" = $2) AND ($3 IS NULL OR outcome = $3) "
        'ORDER BY "time" DESC, id LIMIT $4 OFFSET $5'
    )
    return _frame(source, query, [agent, key, outcome, limit, skip])


def documents(source: Source, *, limit: int = 50, skip: int = 0) -> pl.DataFrame:
    """document, time, outcome: the documents that were last written or confirmed, newest first, those deleted left out.

    Looks at the newest `RECENT` records only, so that it answers at once however long the history is.
    """
    query = """
        WITH newest AS (
            SELECT ref AS document, arg_max("time", seq) AS "time", arg_max(outcome, seq) AS outcome, max(seq) AS seq FROM records
            WHERE kind = 'document' AND seq > (SELECT max(seq) FROM records) - $1 GROUP BY ref)
        SELECT document, "time", outcome FROM newest WHERE outcome <> 'deleted' ORDER BY seq DESC LIMIT $2 OFFSET $3"""
    return _frame(source, query, [RECENT, limit, skip])


def dead_letters(source: Source, *, limit: int = 50) -> pl.DataFrame:
    """id, position, cause, error, event, flow, topic: the newest dead letters."""
    return _frame(source, "SELECT id, position, cause, error, event, flow, topic FROM dead_letters ORDER BY logged DESC LIMIT $1", [limit])


def life(source: Source, position: Position | str) -> list[Stage]:
    """One event's life: appended, then searchable, activation, decision, published as far as it came. Raises NotFound, Misused.

    Of several activations the one that this event tipped over counts, else the first.
    """
    token = str(position if isinstance(position, Position) else Position.parse(position))
    with source.cursor() as cursor:
        found = lying_at(cursor, [token]) + mentioning(cursor, [token])
        if not found:
            raise NotFound(f"no record names {token}; `headwater why` takes other ids, and a fresh event may not have landed yet")
        return _stages(_moments(cursor, token, found))


def showpiece(source: Source) -> Showpiece | None:
    """The most confident of the decisions that did something, else of all, before those that had no choice; None if there is none."""
    query = """
        SELECT d.id, a.parents[1] FROM decisions d JOIN records a ON a.kind = 'activation' AND a.ref = d.activation
        WHERE len(a.parents) > 0
        ORDER BY EXISTS (FROM effects e WHERE e.decision = d.id) DESC, (SELECT count(*) FROM options o WHERE o.decision = d.id) > 1 DESC,
            d.confidence DESC, d."time", d.id LIMIT 1"""
    with source.cursor() as cursor:
        rows = cursor.execute(query).fetchall()
    return Showpiece(*rows[0]) if rows else None


def _moments(cursor: Connection, token: str, found: list[Record]) -> dict[str, int | None]:
    documents = [record.data for record in found if record.kind == "document"]
    fired = [record for record in found if record.kind == "activation"]
    tipped = [record for record in fired if record.parents[:1] == (token,)]
    moments: dict[str, int | None] = {}
    if documents:
        moments["appended"], moments["searchable"] = documents[0].get("appended"), documents[0].get("settled")
    if fired:
        activation = (tipped or fired)[0]
        moments["activation"] = activation.logged
        if not documents:
            moments["appended"] = activation.data.get("appended")
        decided = [record for record in mentioning(cursor, [activation.ref]) if record.kind == "decision"]
        if decided:
            moments["decision"] = decided[0].data.get("decided")
            effects = [record for record in mentioning(cursor, [decided[0].ref]) if record.kind == "effect"]
            moments["published"] = effects[0].data.get("sent") if effects else None
    return moments


def _stages(moments: dict[str, int | None]) -> list[Stage]:
    known = sorted((at, name) for name, at in moments.items() if at)
    before = [known[0][0], *(at for at, _ in known)] if known else []
    return [Stage(name, (at - last) / 1000, at) for (at, name), last in zip(known, before, strict=False)]


def _frame(source: Source, query: str, parameters: list[object] | None = None) -> pl.DataFrame:
    with source.cursor() as cursor:
        frame: pl.DataFrame = cursor.sql(query, params=parameters or []).pl()
        return frame
