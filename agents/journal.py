"""The journal: the decisions topic, read back after a crash so that nothing is decided or done twice (law 2).

Three entries: `decided` is committed before the first effect, `started` before a call whose fate could stay unknown,
`done` together with the published effects. The first `decided` of a decision id in log order is the decision.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from headwater.agents.agent import Option
from headwater.agents.budget import Spent
from headwater.agents.hops import VIA
from headwater.agents.memory import Memory
from headwater.lineage.errors import Undecodable
from headwater.lineage.event import Event
from headwater.lineage.record import Record

State = Literal["acted", "waiting", "no_action"]
"""How a decision ended: its effects go out; a person is asked; there is nothing to do."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event ready to be sent. `id` is the effect id (or the review's): however often it is sent, it is the same event.

    `data` is the JSON text exactly as the topic encoded it; `time` is event time, µs since 1970; `via` are the agents it came through.
    """

    id: str
    ordinal: int
    topic: str
    type: str
    source: str
    time: int
    data: msgspec.Raw
    key: str | None = None
    subject: str | None = None
    causationid: str | None = None
    correlationid: str | None = None
    actor: str | None = None
    via: str = ""

    @property
    def event(self) -> Event:
        return Event(
            id=self.id, source=self.source, type=self.type, time=self.time, data=bytes(self.data), subject=self.subject,
            causationid=self.causationid, correlationid=self.correlationid, actor=self.actor,
            extensions={VIA: self.via} if self.via else {},
        )  # fmt: skip


class Decided(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry", tag="decided"):
    """One activation decided by one agent: everything that effects, lineage and a person's review need.

    agent      who was woken; `by` who decided: the agent itself or one of its fallbacks; `version` and `digest` are of `by`
    position   the token of the activation's position; a second one with the same activation is a duplicate
    choice     JSON value of the choice, None for nothing to do; `summary` is its short text
    effects    what the decision does outside; held back while it waits for a verdict
    review     the question to a person, if it waits
    spent      of the agents asked that have a budget: what this journal's decisions have spent of it on that day, this one included
    memory     what the agent remembers from here on, if this decision changed it
    woken, decided   wall clock, µs since 1970
    """

    id: str
    agent: str
    by: str
    version: str
    digest: str
    activation: str
    key: str
    at: int
    state: State
    position: str = ""
    choice: Any = None
    summary: str = ""
    options: tuple[Option, ...] = ()
    rationale: str = ""
    confidence: float = 0.0
    evidence: tuple[str, ...] = ()
    without: dict[str, Option] = {}
    cost: dict[str, float] = {}
    effects: tuple[Outgoing, ...] = ()
    review: Outgoing | None = None
    woken: int = 0
    decided: int = 0
    attempts: int = 1
    error: str = ""
    spent: dict[str, Spent] = {}
    memory: Memory | None = None
    records: tuple[Record, ...] = ()

    @property
    def outbox(self) -> tuple[Outgoing, ...]:
        """What goes out now: the effects if it acts, the question if it waits."""
        if self.state == "acted":
            return self.effects
        return (self.review,) if self.review is not None else ()


class Started(msgspec.Struct, frozen=True, kw_only=True, tag_field="entry", tag="started"):
    """A call whose fate could stay unknown is about to be made (µs since 1970)."""

    id: str
    effect: str
    at: int


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry", tag="done"):
    """A decision's effects went out: their ids, and the tokens of the positions they took, if the journal knew them when it wrote."""

    id: str
    effects: tuple[str, ...]
    at: int
    positions: tuple[str, ...] = ()

    def placed(self, positions: Sequence[str]) -> "Done":
        return msgspec.structs.replace(self, positions=tuple(positions))


Entry: TypeAlias = Decided | Started | Done

_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """The value of one message of the decisions topic; its key is the decision id."""
    return _encoder.encode(entry)


def decode(value: bytes) -> Entry:
    """The entry of a message. Raises Undecodable."""
    try:
        entry: Entry = _decoder.decode(value)
        return entry
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"a journal entry cannot be read: {error}") from None


class Journal(Protocol):
    """Where entries are written: one owner per (agent, partition), the former owner fenced.

    Both calls return when what they wrote is committed, however long the broker pauses. Unavailable means: not committed, call again.
    Any other error means that this owner must stop: it is fenced, closed or broken, or the broker refuses what is to be written.
    """

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write entries, all or none."""
        ...

    async def perform(self, effects: Sequence[Outgoing], done: Done) -> list[str]:
        """Publish the events and write `done.placed(tokens)`, together. Gives the positions' tokens in the order of the effects."""
        ...


class Ended(msgspec.Struct, frozen=True):
    """What the book keeps of a decision that is finished: enough to tell a resubmitted activation from a duplicate."""

    state: State
    position: str


KEPT = 100_000


class Book:
    """What a journal says, folded. Finished decisions are kept shortened, the newest `kept` of them."""

    def __init__(self, entries: Iterable[Entry] = (), *, kept: int = KEPT) -> None:
        self._decided: dict[str, Decided] = {}
        self._started: dict[str, set[str]] = {}
        self._done: dict[str, Done] = {}
        self._ended: dict[str, Ended] = {}
        self._kept = kept
        for entry in entries:
            self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Take one entry in log order; later ones of the same kind and id change nothing."""
        if entry.id in self._ended:
            return
        match entry:
            case Decided():
                self._decided.setdefault(entry.id, entry)
            case Started():
                self._started.setdefault(entry.id, set()).add(entry.effect)
            case Done():
                self._done.setdefault(entry.id, entry)

    def decided(self, decision: str) -> Decided | None:
        """The decision, while it is not ended."""
        return self._decided.get(decision)

    def done(self, decision: str) -> Done | None:
        return self._done.get(decision)

    def ended(self, decision: str) -> Ended | None:
        return self._ended.get(decision)

    def unknown_fate(self, decision: str) -> frozenset[str]:
        """Effects that were started and not done: never to be called again, a person must look."""
        if decision in self._done:
            return frozenset()
        return frozenset(self._started.get(decision, ()))

    def state(self, decision: str) -> Literal["unknown", "decided", "started", "done"]:
        if decision in self._ended or decision in self._done:
            return "done"
        if decision in self._started:
            return "started"
        return "decided" if decision in self._decided else "unknown"

    def end(self, decided: Decided) -> None:
        """The decision's outcome is handed over: keep its end only."""
        self._ended[decided.id] = Ended(decided.state, decided.position)
        for known in (self._decided, self._started, self._done):
            known.pop(decided.id, None)
        while len(self._ended) > self._kept:
            self._ended.pop(next(iter(self._ended)))
