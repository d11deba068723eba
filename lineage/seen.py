"""What `why` answers with: the things on a path, as plain data."""

from typing import Any

import msgspec


class Option(msgspec.Struct, frozen=True):
    """A choice and the probability the model gave it."""

    name: str
    confidence: float


class EventSeen(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a path. `position` is its token, `short` the same for people; `text` what its document says, if it became one.

    reads  enricher → where it has what it knew of the event from
    """

    position: str
    short: str
    id: str = ""
    key: str = ""
    text: str = ""
    document: str = ""
    outcomes: dict[str, str] = {}
    reads: dict[str, Any] = {}


class DocumentSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a document. `at` is the event time; `appended` and `settled` are wall clock; in µs. `reads`: as of an event."""

    id: str
    version: int
    outcome: str
    event: str
    position: str
    text: str
    at: int | None = None
    appended: int | None = None
    settled: int | None = None
    reads: dict[str, Any] = {}


class ActivationSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A firing of a rule, its events newest first."""

    id: str
    rule: str
    key: str
    phase: str
    at: int | None
    value: float
    count: int
    total: int
    fired: int
    events: tuple[EventSeen, ...]


class ChunkSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that an agent saw.

    score    its cosine to the query
    used     the agent named it as evidence
    without  what it would have chosen without it
    """

    id: str
    document: str
    version: int
    section: str
    text: str
    score: float
    position: str
    used: bool
    without: Option | None


class Retrieval(msgspec.Struct, frozen=True, kw_only=True):
    """A search of an agent. `as_of` is the index's progress then, `at` the event time searched at (µs)."""

    query: str
    at: int | None
    staleness_ms: float | None
    as_of: dict[str, int]
    results: tuple[ChunkSeen, ...]


class EffectSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision did outside."""

    id: str
    effect: str
    target: str
    key: str
    state: str
    position: str
    sent: int | None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A decision in a cascade.

    over        where the event lies that joins it to the one before: published by the one, woke the other
    rule, key   of the activation that woke it; `outcome` as it was decided
    links       the decisions behind it (of what led here) or after it (of what followed)
    """

    id: str
    agent: str
    version: str
    summary: str
    confidence: float
    outcome: str
    rule: str
    key: str
    at: int | None
    over: str
    links: tuple["Link", ...] = ()


class DecisionSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A decision with all it came from and led to. `outcome` is what became of it; times in µs.

    by      who decided, if that was no longer the agent but a fallback: `version` is its
    notes   what the agent said, and what held it back;  recalled, remembered  its memory before, and after if it changed it
    resumed_by  the decision that went on where this one suspended
    before  the decisions whose events woke it;  after  those that its own events woke; each with those behind it
    trace   the id of the trace that it belongs to, for a collector
    """

    id: str
    agent: str
    version: str
    outcome: str
    choice: Any
    summary: str
    confidence: float
    rationale: str
    at: int | None
    woken: int | None
    decided: int | None
    attempts: int
    error: str
    options: tuple[Option, ...]
    cost: dict[str, float]
    activation: ActivationSeen | None
    retrievals: tuple[Retrieval, ...]
    effects: tuple[EffectSeen, ...]
    rulings: tuple[dict[str, Any], ...]
    reviews: tuple[dict[str, Any], ...]
    models: tuple[dict[str, Any], ...]
    tools: tuple[dict[str, Any], ...]
    notes: tuple[dict[str, Any], ...] = ()
    recalled: dict[str, Any] = {}
    remembered: dict[str, Any] | None = None
    resumed_by: tuple[str, ...] = ()
    before: tuple[Link, ...] = ()
    after: tuple[Link, ...] = ()
    trace: str = ""
    by: str = ""

    @property
    def who(self) -> str:
        """`recover@2`, or `recover's fallback by_the_book@1`."""
        fallback = f"{self.agent}'s fallback {self.by}" if self.by and self.by != self.agent else self.agent
        return f"{fallback}@{self.version}"


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One life of an event on its topic: what each flow made of it, with every move to the retry ladder, and what closed its dead letters.

    A redriven event has several, first to last.
    """

    position: str
    short: str
    steps: tuple[str, ...] = ()


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: what was asked for, and everything on its path. `lives` is told of events that were tried again.

    newest  document → its version now, of those that its decisions were shown
    more    decisions on the path that are not among `decisions`: of many the newest are told
    """

    id: str
    kind: str
    events: tuple[EventSeen, ...] = ()
    documents: tuple[DocumentSeen, ...] = ()
    dead_letters: tuple[dict[str, Any], ...] = ()
    activations: tuple[ActivationSeen, ...] = ()
    decisions: tuple[DecisionSeen, ...] = ()
    lives: tuple[Life, ...] = ()
    newest: dict[str, int] = {}
    more: int = 0
