"""Records: one fact about one step. They form the path event → chunk → activation → retrieval → decision → effect.

Every step returns its records beside its results; a flow merges them once and sends them in batches to `headwater.lineage`.
A record's id is a hash of what it is about, so that a replay after a crash lands no record twice.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from headwater.lineage.event import Position

Kind = Literal[
    "consumed",  # a source read the offsets [first, next) of a partition, `count` of them
    "absent",  # offsets [first, next) do not exist: transaction markers, compaction, retention
    "outcome",  # how the offsets [first, next) ended
    "dead_letter",  # one position moved to headwater.dead; data: cause, error, event, attempt, origin, first_failure, message
    "redrive",  # a dead letter was put onto its topic again; data: position (its next life), event, attempt, by
    "drop",  # a dead letter was given up; data: by, reason
    "document",  # one document version reached the index; data: type, version, time, outcome, chunks[{id, n, hash}], appended, settled
    "rule",  # a rule was changed, added or removed; data: rule, version, before, afresh, cut (what it had released by then)
    "idle",  # silent partitions stopped (or began again) holding a topic's watermark; data: partitions, clock, before, after
    "activation",  # a rule fired; data: rule, key, phase, opened, value, events, cut
    "retrieval",  # an agent searched; data: query, limit, as_of, staleness_ms, results
    "model",  # an agent asked a model; data: model, prompt, answer, options, tokens, and what a language model was told besides
    "tool",  # an agent called a tool that reads; data: tool, scope, arguments, answer or error, seconds
    "note",  # an agent said something about its reasoning
    "ruling",  # a policy answered; data: principal, action, resource, allowed, policy
    "decision",  # data: agent, version, activation, state, choice, options, rationale, confidence, evidence, cost, times
    "effect",  # data: decision, ordinal, effect, target, state, position
    "review",  # a question to a person; data: decision, reason, question, effects, asked, expires
    "verdict",  # its answer; data: review, decision, verdict, by, reason, accepted, since when it counts, or why it does not
    "erasure",  # contents were removed on request; ref: the subject; data: by, why, documents, decisions, texts, contents, leaves
    "retention",  # contents or records were removed by age; data: by, why, before, texts, contents, records, root
    "life",  # a broker's life is over; data: read (partition of the lineage topic → the offset up to which it was landed), next
    "run",  # a flow's process started or stopped; data: state, pid, version
]
Outcome = Literal[
    "indexed", "unchanged", "deleted", "stale", "passed", "late", "dead_lettered",  # of positions
    "acted", "no_action", "approved", "declined", "expired", "waiting",  # of (activation, agent)
    "moved", "lost_with_broker",
]  # fmt: skip

GRAVEST = ("dead_lettered", "moved", "indexed", "deleted", "stale", "unchanged", "passed")


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact about one step.

    ref      what it is about: an event id, document id, activation id, decision id, effect id
    parents  the refs and positions (as tokens) it came from
    broker, topic, partition, first, next, count   the offsets [first, next) it speaks of, if any
    at       event time, µs since 1970;  logged  wall clock, µs since 1970
    data     what the kind says, see Kind
    """

    id: str
    kind: str
    flow: str
    step: str
    logged: int
    ref: str = ""
    parents: tuple[str, ...] = ()
    broker: str = ""
    topic: str = ""
    partition: int = -1
    first: int = -1
    next: int = -1
    count: int = 0
    outcome: str = ""
    at: int | None = None
    data: dict[str, Any] = {}

    @property
    def position(self) -> Position:
        return Position(self.broker, self.topic, self.partition, self.first)


_encode = msgspec.json.Encoder(enc_hook=str).encode


def encode_rows(records: Sequence[Record]) -> bytes:
    """Records as a JSON list."""
    return _encode(records)


def record_id(*parts: object) -> str:
    """32 hex digits that name a record: a hash of flow, step, position or ref, ordinal."""
    return hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def run_of(
    kind: Kind, flow: str, where: Position, next: int, count: int, logged: int, outcome: str = "", ref: str = "",
    parents: tuple[str, ...] = (),
) -> Record:  # fmt: skip
    """A `consumed`, `absent` or `outcome` record over the offsets [where.offset, next)."""
    return Record(
        id=record_id(flow, kind, where, next, outcome),
        kind=kind, flow=flow, step=kind, logged=logged, ref=ref, parents=parents,
        broker=where.broker, topic=where.topic, partition=where.partition, first=where.offset, next=next, count=count, outcome=outcome,
    )  # fmt: skip


def outcomes(flow: str, ended: Iterable[tuple[Position, str]], logged: int) -> Iterator[Record]:
    """Outcome records of positions given in offset order per partition: neighbours that ended alike share one record."""
    open_runs: dict[tuple[str, str, int], tuple[Position, int, str]] = {}
    for where, outcome in ended:
        place = where[:3]
        run = open_runs.get(place)
        if run is not None and run[1] == where.offset and run[2] == outcome:
            open_runs[place] = (run[0], where.offset + 1, outcome)
            continue
        if run is not None:
            yield run_of("outcome", flow, run[0], run[1], run[1] - run[0].offset, logged, run[2])
        open_runs[place] = (where, where.offset + 1, outcome)
    for first, following, outcome in open_runs.values():
        yield run_of("outcome", flow, first, following, following - first.offset, logged, outcome)


def fact(
    kind: Kind, flow: str, step: str, ref: str, *, logged: int, parents: Iterable[str] = (), where: Position | None = None,
    ordinal: int | str = 0, at: int | None = None, outcome: str = "", data: Mapping[str, Any] | None = None,
) -> Record:  # fmt: skip
    """A record about one thing; `where` is the position it speaks of, if it speaks of one."""
    broker, topic, partition, offset = where or ("", "", -1, -1)
    return Record(
        id=record_id(f"{flow}\x1f{step}\x1f{kind}\x1f{where or ''}\x1f{ref}\x1f{ordinal}"),
        kind=kind, flow=flow, step=step, logged=logged, ref=ref, parents=tuple(parents), at=at, outcome=outcome, data=dict(data or {}),
        broker=broker, topic=topic, partition=partition, first=offset, next=offset + 1 if where else -1, count=1 if where else 0,
    )  # fmt: skip
