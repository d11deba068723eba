"""retention: what is older than it is to be kept. Pure reading; `Store.remove` does it, told by a record as an erasure is.

Texts and records have ages of their own. A text goes when the newest record that refers to it is too old. Of records only reasoning goes:
searches, questions to models, tool calls, notes, rulings. All else proves that nothing was lost, and is kept.
"""

# ruff: noqa: S608  (the SQL is put together from constants of this package; what comes from outside is a parameter)

import msgspec

from headwater.lineage.contents import NOT_KEPT, REFERENCES, SLOTS, in_place_of
from headwater.lineage.duration import format_time
from headwater.lineage.removal import Removal
from headwater.lineage.verify import Source

REASONING = ("retrieval", "model", "tool", "note", "ruling")


class Ageing(msgspec.Struct, frozen=True, kw_only=True):
    """What is too old: so many texts and records, and from when on all is kept (RFC 3339; empty: all of it)."""

    texts: int
    records: int
    texts_since: str
    records_since: str


def aged(source: Source, *, texts_before: int | None, records_before: int | None, by: str, why: str) -> tuple[Ageing, Removal]:
    """What landed before these moments (wall clock, µs since 1970; None: nothing is too old), and how it is removed."""
    since = ["" if moment is None else format_time(moment) for moment in (texts_before, records_before)]
    removal = Removal("retention", by, why, told={"texts_since": since[0], "records_since": since[1]})
    bounds = {"texts": -1 if texts_before is None else texts_before, "records": -1 if records_before is None else records_before}
    with source.cursor() as cursor:
        cursor.begin()
        try:
            removal.pruned = [seq for (seq,) in cursor.execute(_OLD, {"records": bounds["records"]}).fetchall()]
            rows = cursor.execute(_UNREFERRED, bounds).fetchall()
        finally:
            cursor.rollback()
    removal.contents = {n: _IN_PLACE.get(field, _IN_PLACE[""]) for n, field in rows}
    told = Ageing(texts=len(removal.contents), records=len(removal.pruned), texts_since=since[0], records_since=since[1])
    return told, removal


_IN_PLACE = {
    field: msgspec.json.encode(in_place_of(kind, field, NOT_KEPT)).decode() for kind, fields in SLOTS.items() for field in fields
} | {"": msgspec.json.encode(NOT_KEPT).decode()}
"""What stands for a text that is not kept, by the field that refers to it."""

_TOO_OLD = f"kind IN {REASONING} AND epoch_us(logged) < $records"

_OLD = f"SELECT seq FROM records WHERE {_TOO_OLD} ORDER BY seq"

# Texts that no record refers to which is kept and young enough; with one of the fields that refer to it.
_UNREFERRED = f"""
    WITH kept AS (
        SELECT DISTINCT number_of(unnest({REFERENCES})) AS n FROM records
        WHERE held IS NOT NULL AND epoch_us(logged) >= $texts AND NOT ({_TOO_OLD})),
    named AS (
        SELECT number_of(j.value->>'$') AS n, any_value(j.key) AS field FROM records, json_each(held) j
        WHERE held IS NOT NULL AND json_type(j.value) = 'VARCHAR' GROUP BY ALL)
    SELECT c.n, coalesce(field, '') FROM contents c LEFT JOIN named USING (n)
    WHERE salt IS NOT NULL AND c.n NOT IN (SELECT n FROM kept) ORDER BY c.n"""
