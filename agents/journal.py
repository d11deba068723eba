"""The journal: the decisions topic, read back after a crash so that nothing is decided or done twice (law 2).

Its entries: `decided` is committed before the first call, and before or together with the first events; `started` before a call whose
fate could stay unknown, `answered` after a call, `done` together with events that were published, `judged` before what a verdict lets
happen. The first `decided` of a decision id in log order is the decision; so it is with the verdict of a review.
Entries that are committed together and follow each other share a message: a broker takes one of twenty for the price of two.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from headwater.agents.agent import Option
from headwater.agents.budget import Spent
from headwater.agents.hops import VIA
from headwater.agents.memory import Memory
from headwater.agents.tool import Kind
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
    traceparent: str = ""

    @property
    def event(self) -> Event:
        return Event(
            id=self.id, source=self.source, type=self.type, time=self.time, data=bytes(self.data), subject=self.subject,
            causationid=self.causationid, correlationid=self.correlationid, actor=self.actor,
            traceparent=self.traceparent or None, extensions={VIA: self.via} if self.via else {},
        )  # fmt: skip


class Calling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call ready to be made: `id` is the effect id, `kind` what the tool was declared to be when it was decided."""

    id: str
    ordinal: int
    tool: str
    scope: str
    kind: Kind
    arguments: dict[str, Any] = {}


class Decided(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry", tag="decided"):
    """One activation decided by one agent: everything that effects, lineage and a person's review need.

    agent      who was woken; `by` who decided: the agent itself or one of its fallbacks; `version` and `digest` are of `by`
    position   the token of the activation's position; a second one with the same activation is a duplicate
    choice     JSON value of the choice, None for nothing to do; `summary` is its short text
    effects, calls   what the decision does outside, in the order of their ordinals; held back while it waits for a verdict
    review     the question to a person, if it waits
    spent      of the agents asked that have a budget: what this journal's decisions have spent of it on that day, this one included
    traceparent   its trace context, which its effects follow
    memory     what the agent remembers from here on, if this decision changed it
    expires    how long a review of it waits, µs
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
    calls: tuple[Calling, ...] = ()
    review: Outgoing | None = None
    expires: int = 0
    woken: int = 0
    decided: int = 0
    attempts: int = 1
    error: str = ""
    spent: dict[str, Spent] = {}
    memory: Memory | None = None
    traceparent: str = ""
    records: tuple[Record, ...] = ()

    @property
    def outbox(self) -> tuple[Outgoing, ...]:
        """The events that go out without a verdict: the effects if it acts, the question if it waits."""
        if self.state == "acted":
            return self.effects
        return (self.review,) if self.review is not None else ()


class Started(msgspec.Struct, frozen=True, kw_only=True, tag_field="entry", tag="started"):
    """A call whose fate could stay unknown is about to be made (µs since 1970)."""

    id: str
    effect: str
    at: int


class Answered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry", tag="answered"):
    """What became of a call (µs since 1970): it happened, the receiver refused it, or nobody knows."""

    id: str
    effect: str
    state: Literal["done", "failed", "unknown"]
    at: int
    answer: Any = None
    error: str = ""
    attempts: int = 1


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry", tag="done"):
    """Events of a decision went out: their ids, and the tokens of the positions they took, if the journal knew them when it wrote."""

    id: str
    effects: tuple[str, ...]
    at: int
    positions: tuple[str, ...] = ()

    def placed(self, positions: Sequence[str]) -> "Done":
        return msgspec.structs.replace(self, positions=tuple(positions))


class Judged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="entry", tag="judged"):
    """A review of a decision has its verdict.

    position   the token of the verdict's event; empty where it expired
    choice     JSON value to put in the place of the decision's choice, None: as it was
    at, counted   when it was said, and when it was written here: from then on what it lets happen may happen (µs since 1970)
    """

    id: str
    review: str
    verdict: Literal["approved", "declined", "expired"]
    at: int
    by: str = ""
    reason: str = ""
    choice: Any = None
    position: str = ""
    counted: int = 0


Entry: TypeAlias = Decided | Started | Answered | Done | Judged

LARGEST_PAGE = 200_000
"""Bytes up to which entries share a message."""

_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(Entry)
_page_decoder = msgspec.json.Decoder(list[Entry])


def encode(entry: Entry) -> bytes:
    """One entry: the value of a message of the decisions topic that holds no other; its key is the decision id."""
    return _encoder.encode(entry)


def decode(value: bytes) -> Entry:
    """What `encode` gave. Raises Undecodable."""
    try:
        entry: Entry = _decoder.decode(value)
        return entry
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"a journal entry cannot be read: {error}") from None


class Page(NamedTuple):
    """Entries that share a message, in log order, and the message's value: the entry itself, or a list of them."""

    entries: Sequence[Entry]
    value: bytes


def pages(entries: Iterable[Entry], largest: int = LARGEST_PAGE) -> Iterator[Page]:
    """Entries as messages: as few as keep to `largest` bytes each; an entry that is larger alone has its own."""
    together, texts, size = list[Entry](), list[bytes](), 0
    for entry in entries:
        text = _encoder.encode(entry)
        if texts and size + len(text) > largest:
            yield _page(together, texts)
            together, texts, size = [], [], 0
        together.append(entry)
        texts.append(text)
        size += len(text) + 1
    if texts:
        yield _page(together, texts)


def decode_page(value: bytes) -> list[Entry]:
    """The entries of a message. Raises Undecodable."""
    if value[:1] != b"[":
        return [decode(value)]
    try:
        entries: list[Entry] = _page_decoder.decode(value)
        return entries
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Undecodable(f"journal entries cannot be read: {error}") from None


def _page(entries: Sequence[Entry], texts: Sequence[bytes]) -> Page:
    return Page(entries, texts[0] if len(texts) == 1 else b"[" + b",".join(texts) + b"]")


class Journal(Protocol):
    """Where entries are written: one owner per (agent, partition), the former owner fenced.

    Both calls return when what they wrote is committed, however long the broker pauses. Unavailable means: not committed, call again.
    Any other error means that this owner must stop: it is fenced, closed or broken, or the broker refuses what is to be written.
    """

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write entries, all or none."""
        ...

    async def perform(self, effects: Sequence[Outgoing], done: Done, decided: Decided | None = None) -> list[str]:
        """Publish the events and write `done.placed(tokens)`, together. Gives the positions' tokens in the order of the effects.

        `decided`, if it is not written yet, is written with them, and lies in the log before the first event is sent: who is shown an
        event of an owner that was killed finds the decision that it comes from, though neither was committed.
        """
        ...

    def place(self, decision: str) -> int:
        """Where the `decided` lies that was read or written under this id."""
        ...

    async def recall(self, decision: str, place: int) -> Decided:
        """The `decided` that lies there, however long ago it was written. Raises NotFound: it is there no more. Unavailable: call again."""
        ...
