"""What fields the documents have, learnt from the index when a search first asks: a misspelt filter is told, not answered with nothing."""

import threading
from collections.abc import Sequence

from headwater.enrichers.condition import Condition, Where, kind_of, kinds_of, names_told, scope_of
from headwater.enrichers.document import Field
from headwater.enrichers.engine import Index, Point, Scope
from headwater.lineage.errors import Misused

LOOKED_AT = 100
"""Chunks that are looked at to learn of a field."""


class Fields:
    """The fields of each document type and what was seen in them. Threads may share it.

    declared  the document types of the application: while one of them has no documents, nobody knows what fields it will have
    """

    def __init__(self, index: Index, declared: Sequence[str] = ()) -> None:
        self._index = index
        self._declared = tuple(declared)
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._lock = threading.Lock()

    def check(self, where: Where, scope: Scope) -> None:
        """Raises Misused for a document type that there is not, a field that no document in question has, or that never holds such a
        value."""
        self._check_types(scope.types)
        among = Scope(scope.at, types=scope.types)
        for name, condition in where.items():
            if '"' in name or "\\" in name or not name:
                continue  # no path leads there; as a value it can still be matched
            wanted = kinds_of(condition)
            if not _fits(wanted, self._kinds(name, among.types)):
                self._look(name, condition, wanted, among)

    def _check_types(self, types: Sequence[str]) -> None:
        """Those of documents that an earlier application left in the index may be asked for as well."""
        for one in types:
            if self._declared and one not in self._declared and not self._index.sample(Scope(types=(one,)), 1):
                raise Misused(f"types: there is no document type {one!r}; there are {names_told(self._declared)}")

    def _look(self, name: str, condition: Condition, wanted: set[str], among: Scope) -> None:
        self._learn(self._index.sample(among, LOOKED_AT, name))
        kinds = self._kinds(name, among.types)
        if _fits(wanted, kinds):
            return
        matching = scope_of({name: condition}, among.at, among.types)
        if found := self._index.sample(matching, 1):
            self._learn(found)
            return
        if kinds:
            told = " or ".join(sorted(wanted))
            raise Misused(f"where: {name} is {' or '.join(sorted(kinds))} in the documents, and {told} is asked for", field=name)
        names = self._names(among)
        if names is not None and name not in names:
            kind = f"{', '.join(among.types)} has" if among.types else "documents have"
            raise Misused(f"where: no document has a field {name!r}; {kind} {names_told(names) or 'no fields'}", field=name)

    def _names(self, among: Scope) -> set[str] | None:
        """The names of the fields that some documents of each type have; None: some type has no documents yet."""
        names: set[str] = set()
        for one in among.types or self._declared or (None,):
            points = self._index.sample(Scope(among.at, types=() if one is None else (one,)), LOOKED_AT)
            if not points:
                return None
            names.update(name for point in points for name in point.fields)
        return names

    def _kinds(self, name: str, types: Sequence[str]) -> set[str]:
        with self._lock:
            known = [kinds for (kind, field), kinds in self._seen.items() if field == name and (not types or kind in types)]
        return set().union(*known)

    def _learn(self, points: Sequence[Point]) -> None:
        with self._lock:
            for point in points:
                for name, value in point.fields.items():
                    self._note(point.type, name, value)

    def _note(self, kind: str, name: str, value: Field) -> None:
        if value is not None:
            self._seen.setdefault((kind, name), set()).add(kind_of(value))


def _fits(wanted: set[str], known: set[str]) -> bool:
    return bool(known & wanted) if wanted else bool(known)
