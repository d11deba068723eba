"""cascade: which decisions led to a decision, and which followed, by what each published and what that woke."""

from collections.abc import Sequence

from headwater.lineage.names import Connection, mentioning
from headwater.lineage.record import Record
from headwater.lineage.seen import Link

MOST = 200
"""Decisions told of in each direction; a cascade may branch at every step."""


def led_here(cursor: Connection, decision: str, positions: Sequence[str]) -> tuple[Link, ...]:
    """The decisions that published what woke this one, given where its activation's events lie."""
    return _Walk(cursor, decision).back(positions)


def followed(cursor: Connection, decision: str, positions: Sequence[str]) -> tuple[Link, ...]:
    """The decisions that were woken by what this one published, given where that lies."""
    return _Walk(cursor, decision).on(positions)


class _Walk:
    """Each decision once, however the branches meet again: what was told of is not told of again."""

    def __init__(self, cursor: Connection, decision: str) -> None:
        self._cursor = cursor
        self._told = {decision}

    def back(self, positions: Sequence[str]) -> tuple[Link, ...]:
        effects = [record for record in mentioning(self._cursor, positions) if record.kind == "effect"]
        over = {record.parents[0]: str(record.data.get("position")) for record in effects if record.parents}
        found = self._decisions(list(over))
        fired = self._fired([record.data.get("activation", "") for record in found])
        return tuple(_link(record, over[record.ref], self.back(fired.get(record.data.get("activation", ""), ()))) for record in found)

    def on(self, positions: Sequence[str]) -> tuple[Link, ...]:
        asked = set(positions)
        woken = {record.ref: record for record in mentioning(self._cursor, positions) if record.kind == "activation"}
        over = {ref: next(parent for parent in record.parents if parent in asked) for ref, record in woken.items()}
        about = mentioning(self._cursor, list(woken))
        found = self._decisions([record.ref for record in about if record.kind == "decision"])
        effects: dict[str, list[str]] = {}
        for record in mentioning(self._cursor, [record.ref for record in found]):
            if record.kind == "effect" and record.parents:
                effects.setdefault(record.parents[0], []).append(record.data.get("position") or "")
        return tuple(_link(record, over[record.data.get("activation", "")], self.on(effects.get(record.ref, ()))) for record in found)

    def _decisions(self, ids: Sequence[str]) -> list[Record]:
        """Those not told of yet, the earliest first."""
        new = [id for id in dict.fromkeys(ids) if id not in self._told][: max(0, MOST - len(self._told))]
        self._told.update(new)
        found = {record.ref: record for record in mentioning(self._cursor, new) if record.kind == "decision" and record.ref in new}
        return sorted(found.values(), key=lambda record: (record.at or 0, record.data.get("agent", ""), record.ref))

    def _fired(self, activations: Sequence[str]) -> dict[str, Sequence[str]]:
        """Activation → where the events lie that woke its rule."""
        return {record.ref: record.parents for record in mentioning(self._cursor, activations) if record.kind == "activation"}


def _link(record: Record, over: str, links: tuple[Link, ...]) -> Link:
    data = record.data
    return Link(
        id=record.ref, agent=data.get("agent", ""), version=str(data.get("version", "")), summary=data.get("summary") or "",
        confidence=data.get("confidence") or 0.0, outcome=record.outcome, rule=data.get("rule", ""), key=data.get("key", ""),
        at=record.at, over=over, links=links,
    )  # fmt: skip
