"""Settled: whether everything that was published has come to its end, as lineage tells; for processes that do not share a meter."""

from collections.abc import Collection, Mapping

from headwater.flows.app import App
from headwater.lineage.verify import Source

Place = tuple[str, int]

_ENDED = """
    SELECT topic, "partition", sum("count")::BIGINT FROM records
    WHERE kind = 'outcome' AND flow = ? AND outcome NOT IN ('waiting', 'retrying') GROUP BY ALL"""

_EFFECTS = "SELECT data->>'$.target', count(DISTINCT ref) FROM records WHERE kind = 'effect' GROUP BY ALL"

# An activation that an agent has not dealt with: neither ended nor waiting for a person.
_OPEN = """
    SELECT count(DISTINCT ref) FROM records a WHERE kind = 'activation'
        AND NOT EXISTS (FROM records o WHERE o.kind = 'outcome' AND o.flow = ? AND o.parents[1] = a.ref)"""

_UNSENT = """
    SELECT count(*) FROM records d WHERE kind = 'decision' AND outcome = 'acted'
        AND NOT EXISTS (FROM records e WHERE e.kind = 'effect' AND e.parents[1] = d.ref)"""


_INDEXED = "SELECT coalesce(sum(\"count\"), 0)::BIGINT FROM records WHERE kind = 'outcome' AND flow = 'index'"


def behind(source: Source, app: App, sent: Mapping[Place, int], marked: Collection[str] = ()) -> int:
    """How much is still on its way: positions that no flow has ended, activations that an agent has not dealt with, effects to come.

    sent    messages published from outside, marks included, per partition; what decisions published, lineage knows
    marked  the topics whose time is told to be over; on the others events may wait in the rules for what is still to come
    """
    with source.cursor() as cursor:
        effects = dict(cursor.execute(_EFFECTS).fetchall())
        missing = int(cursor.execute(_UNSENT).fetchall()[0][0])
        for flow, topics in (("index", app.indexed), ("detect", app.watched)):
            ended: dict[str, int] = {}
            for topic, _, many in cursor.execute(_ENDED, [flow]).fetchall():
                ended[topic] = ended.get(topic, 0) + int(many)
            for topic in topics if flow == "index" else topics.keys() & set(marked):
                wanted = sum(many for (name, _), many in sent.items() if name == topic) + effects.get(topic, 0)
                missing += max(0, wanted - ended.get(topic, 0))
        for agent in app.agents:
            missing += int(cursor.execute(_OPEN, [f"decide/{agent.name}"]).fetchall()[0][0])
        return missing


def ended(source: Source) -> int:
    """Positions that `index` has ended: it rises whenever work is done."""
    with source.cursor() as cursor:
        return int(cursor.execute(_INDEXED).fetchall()[0][0])
