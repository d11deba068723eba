"""The engine under an index: what it must be able to do, and what it holds. `index.Indexer` writes it, `retrieve.Retriever` reads it.

It holds chunk points (immutable but for `live` and `until`), one vectorless head point per document, and one vectorless
progress point per partition that the index flow reads.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from headwater.enrichers.document import Field, point_id
from headwater.enrichers.head import Head
from headwater.enrichers.sparse import Sparse

Vector = NDArray[np.float32]

EXACT_BELOW = 20_000
"""With fewer points than this an engine compares with every vector and counts terms over exactly the points in scope: the same
content then gives the same answer, whatever the order and time in which it came."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk of one version of a document. `time` is the version's event time in µs, `position` the token of its event.

    until  the event time (µs) from which a later version counts; None: this one is live
    """

    document: str
    type: str
    version: int
    event: str
    time: int
    n: int
    hash: str
    text: str
    section: str = ""
    position: str = ""
    fields: dict[str, Field] = {}
    until: int | None = None

    @property
    def id(self) -> str:
        return point_id(self.document, self.version, self.event, self.n)

    def payload(self) -> dict[str, Any]:
        """The point as a payload. `live` is 1 or 0, for the embedded engine's filters cannot match a boolean."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        if fields["until"] is None:
            del fields["until"]
        return fields | {"kind": "chunk", "live": int(self.until is None), "tags": tags_of(self.fields)}

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> "Point":
        return msgspec.convert(dict(payload), cls)


class Embedded(NamedTuple):
    """A chunk point with its vectors, as it is put."""

    point: Point
    dense: Vector
    sparse: Sparse


class Identified(Protocol):
    """Whatever has the id of a point."""

    @property
    def id(self) -> object: ...


class Found:
    """A point that one half of a search found. Its id takes longest to make, and of thousands that share a score few are asked for it."""

    __slots__ = ("_id", "_one", "score")

    def __init__(self, score: float, one: Identified) -> None:
        self.score = score
        self._one = one
        self._id = ""

    @property
    def id(self) -> str:
        self._id = self._id or str(self._one.id)
        return self._id


class Belonging(msgspec.Struct, frozen=True, gc=False):
    """The version of a document that a point belongs to, for good."""

    document: str
    version: int
    event: str


class Half(NamedTuple):
    """What one half of a search looks for: the points nearest to a unit vector (their score is the cosine), or those that share terms
    (BM25); at most `limit` of them."""

    by: Vector | Sparse
    limit: int

    @property
    def asks(self) -> bool:
        """Whether there is anything to look for: a text may have no words but such as all texts have."""
        return not isinstance(self.by, Sparse) or bool(self.by.indices)


class Range(NamedTuple):
    """A field between two bounds, each None or a number, or each None or an instant (RFC 3339, UTC): fields are then text that says one."""

    field: str
    gte: float | str | None = None
    gt: float | str | None = None
    lte: float | str | None = None
    lt: float | str | None = None

    @property
    def of_times(self) -> bool:
        return any(isinstance(bound, str) for bound in self[1:])

    @property
    def key(self) -> str:
        """The path of the field in a payload; in quotes, for a name may hold a dot."""
        return f'fields."{self.field}"'


class Scope(NamedTuple):
    """Which chunk points a search looks at.

    at      None: live ones; else those of the versions that counted at this event time (µs)
    tags    of each group at least one must be on the point (`tag_of`)
    types   document types; none: all
    ranges  all must hold
    """

    at: int | None = None
    tags: tuple[tuple[str, ...], ...] = ()
    types: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()

    @property
    def population(self) -> "Scope":
        """The points over which the frequency of terms is counted: all that count at that time."""
        return Scope(self.at)


class Row(msgspec.Struct, frozen=True):
    """The index's progress on one partition, as readers in other processes find it in the store. Times in µs since 1970.

    next         the lowest offset not yet settled
    complete_at  all that had been appended by then is settled
    dead, moved  offset → dead letter id; offsets that moved to the retry ladder
    """

    broker: str
    topic: str
    partition: int
    next: int
    complete_at: int
    dead: dict[int, str] = {}
    moved: tuple[int, ...] = ()


class Count(NamedTuple):
    """How much an index holds: documents that are not deleted, chunk points that count now, all points with heads and history."""

    documents: int
    chunks: int
    points: int


class State(NamedTuple):
    """A chunk point as it lies in the store, for those who check it: `live` is kept beside `until` and must agree with it."""

    id: str
    point: Point
    live: bool


class Storage(NamedTuple):
    """How an engine keeps vectors: `quantization` of those it searches first ("none", "scalar" or "binary"), and whether on disk."""

    quantization: str = "none"
    on_disk: bool = False


QUANTIZATIONS = ("none", "scalar", "binary")


class Index(Protocol):
    """An engine. Each method is one step: it has happened in the store when it returns. Raises Unavailable."""

    size: int

    def heads(self, documents: Sequence[str]) -> dict[str, Head]:
        """The heads of those documents that have one."""
        ...

    def put(self, points: Sequence[Embedded]) -> None:
        """Insert chunk points; one that is there already stays as it is."""
        ...

    def flip(self, heads: Sequence[Head]) -> None:
        """Replace each head by its next revision, only where the stored one is still the revision before it."""
        ...

    def supersede(self, points: Mapping[int, Sequence[str]]) -> None:
        """`until` (µs) → chunk points that are no longer live. An earlier `until` stays; ids that are not there are passed over."""
        ...

    def delete(self, points: Sequence[str]) -> None:
        """Remove points. Ids that are not there are passed over."""
        ...

    def find(self, halves: Sequence[Half], scope: Scope) -> list[list[Found]]:
        """For each half the points it finds, best first, all in one step."""
        ...

    def belongings(self, ids: Sequence[str]) -> dict[str, Belonging]:
        """What each of these chunk points belongs to. One that is gone may be missing."""
        ...

    def points(self, ids: Sequence[str]) -> dict[str, tuple[Point, Vector]]:
        """Those chunk points that are there, with their dense vectors."""
        ...

    def count(self) -> Count:
        """How much the index holds."""
        ...

    def documents(self, type: str) -> int:
        """How many documents of a type there are that are not deleted."""
        ...

    def forgotten(self, at: int) -> int:
        """How many documents had a version at this event time (µs) that is no longer kept."""
        ...

    def floor(self, types: Sequence[str] = ()) -> int:
        """The event time (µs) from which on every document of these types (none: of all) has kept its versions; 0: all kept them all."""
        ...

    def sample(self, scope: Scope, limit: int, field: str | None = None) -> list[Point]:
        """Some chunk points in scope, no particular ones; `field`: such as have a value in it that is not null."""
        ...

    def save_progress(self, rows: Sequence[Row]) -> None:
        """Store progress beside the points it covers, each partition by itself: processes do not touch each other's."""
        ...

    def load_progress(self) -> list[Row]:
        """The stored progress of every partition."""
        ...

    def keep(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep a small value beside the points; the last one kept under a name counts."""
        ...

    def kept(self, name: str) -> dict[str, Any] | None:
        """What was kept under a name; None: nothing."""
        ...

    def heads_from(self, cursor: str | None, limit: int) -> tuple[list[Head], str | None]:
        """A page of all heads in the order of their ids, and where the next page begins; None: there is none."""
        ...

    def states_from(self, cursor: str | None, limit: int) -> tuple[list[State], str | None]:
        """The same of all chunk points."""
        ...

    def states(self, ids: Sequence[str]) -> dict[str, State]:
        """Those chunk points that are there, as they lie."""
        ...

    def purge(self) -> None:
        """What is deleted must leave no bytes: the embedded engine's files are made anew when opened next. A server sees to its own."""
        ...

    def close(self) -> None:
        """Write everything out and let go of it."""
        ...


def tag_of(name: str, value: Field) -> str:
    """A field as one keyword, so that a single payload index serves every field of every application."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{name}={json.dumps(value, ensure_ascii=False)}"


def tags_of(fields: Mapping[str, Field]) -> list[str]:
    return [tag_of(name, value) for name, value in fields.items()]
