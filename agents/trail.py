"""The trail of one decision: the records of what its agent saw, asked and said, in every attempt."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.authorise import Principal, Ruling
from headwater.agents.memory import Draft
from headwater.lineage.record import Kind, Record, fact

WALL_CLOCK = frozenset({"woken", "decided", "sent", "staleness_ms", "cost", "waited_ms", "seconds", "spent", "kept", "position"})
"""Names of data that the wall clock or the broker's life moves: two runs that differ only in these found and chose the same."""


class Trail:
    """Collects records. Attempts of one decision share a trail, so that each keeps its evidence (law 9)."""

    __slots__ = ("_counts", "_ruled", "activation", "clock", "decision", "draft", "flow", "records", "resumed", "resumes", "spent")

    def __init__(self, agent: str, decision: str, activation: str, clock: Callable[[], int]) -> None:
        self.flow = f"decide/{agent}"
        self.decision = decision
        self.activation = activation
        self.clock = clock
        self.records: list[Record] = []
        self.draft = Draft()
        self.resumes: Activation | None = None
        self.resumed = ""
        self.spent: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._ruled: set[str] = set()

    def retrieval(self, data: Mapping[str, Any], at: int) -> str:
        """A search and what it found; gives its ref, `DECISION:rN`."""
        return self._numbered("retrieval", "retrieve", "r", (self.activation,), data, at)

    def model(self, data: Mapping[str, Any]) -> str:
        """A question to a model and its answer; gives its ref, `DECISION:mN`."""
        return self._numbered("model", "choose", "m", self.retrievals or (self.activation,), data)

    def tool(self, data: Mapping[str, Any]) -> str:
        """A tool that was called while deciding, and what it answered; gives its ref, `DECISION:tN`."""
        return self._numbered("tool", "call", "t", (self.activation,), data)

    def note(self, text: str, **data: Any) -> str:
        """Words about the reasoning; gives its ref, `DECISION:nN`."""
        return self._numbered("note", "decide", "n", (self.activation,), {"text": text, **data})

    def ruling(self, principal: Principal, action: str, resource: str, ruling: Ruling) -> None:
        """What a policy answered. The same question answered alike again is no news."""
        data, content = _ruled(principal.name, action, resource, ruling.allowed, ruling.policy, ruling.reason)
        if content not in self._ruled:
            self._ruled.add(content)
            self._add("ruling", "authorise", self.decision, (self.activation,), data, content)

    def spend(self, amounts: Mapping[str, float]) -> None:
        """Add to what this decision has cost so far, failed attempts included."""
        for name, amount in amounts.items():
            self.spent[name] = self.spent.get(name, 0) + amount

    @property
    def retrievals(self) -> tuple[str, ...]:
        """The refs of all searches so far."""
        return tuple(record.ref for record in self.records if record.kind == "retrieval")

    @property
    def used(self) -> list[str]:
        """The ids of all records so far: a decision names what it rests on."""
        return [record.id for record in self.records]

    def _numbered(self, kind: Kind, step: str, letter: str, parents: Iterable[str], data: Mapping[str, Any], at: int | None = None) -> str:
        n = self._counts.get(letter, 0)
        self._counts[letter] = n + 1
        ref = f"{self.decision}:{letter}{n}"
        self._add(kind, step, ref, parents, data, content_hash(data), at)
        return ref

    def _add(
        self, kind: Kind, step: str, ref: str, parents: Iterable[str], data: Mapping[str, Any], ordinal: str, at: int | None = None
    ) -> None:
        record = fact(kind, self.flow, step, ref, logged=self.clock(), parents=parents, ordinal=ordinal, at=at, data=data)
        self.records.append(record)


_RULING = ("principal", "action", "resource", "allowed", "policy", "reason")


@functools.lru_cache(maxsize=1024)
def _ruled(*said: Any) -> tuple[Mapping[str, Any], str]:
    """What a ruling says, and its hash: the same few are given over and over."""
    data = dict(zip(_RULING, said, strict=True))
    return data, content_hash(data)


def content_hash(data: Mapping[str, Any]) -> str:
    """16 hex digits over the content, wall-clock values left out: attempts that differ get records of their own."""
    lasting = dict(data)
    for name in WALL_CLOCK & lasting.keys():
        del lasting[name]
    text = msgspec.json.encode(lasting, order="deterministic", enc_hook=str)
    return hashlib.blake2b(text, digest_size=8).hexdigest()
