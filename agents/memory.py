"""Memory: what an agent keeps from one decision for its later ones on the same key under the same correlation id.

It is written with the decision, into its journal, and so is as durable: neither a kill nor another worker loses it, and what an attempt
that failed wanted to keep is not kept. A snapshot holds what lies before the part of the journal that is read back.
A suspended agent is a memory that names what it waits for: it costs nothing else.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from headwater.agents.activation import Activation
from headwater.lineage.errors import AgentFailed

MOST_BYTES = 16_384
"""Of one memory, as JSON."""
MOST_IN_ALL = 8_000_000
"""Of all memories of one agent in one partition: every snapshot holds them."""
LONGEST_NAME = 200


class Suspended(msgspec.Struct, frozen=True, kw_only=True):
    """What a suspended agent waits for: one of these rules to fire for its key, until when (wall clock, µs since 1970).

    decision, activation   the decision that suspended, and what it was about
    """

    decision: str
    activation: Activation
    awaits: tuple[str, ...]
    until: int


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept under one correlation id for one key: a JSON object of named values, until when (wall clock, µs since 1970)."""

    correlation: str
    key: str
    values: msgspec.Raw
    until: int
    suspended: Suspended | None = None

    @property
    def place(self) -> tuple[str, str]:
        return (self.correlation, self.key)

    @property
    def size(self) -> int:
        return len(msgspec.json.encode(self))


class Draft:
    """The memory as one attempt reads and changes it. `room`: bytes that are left for it."""

    __slots__ = ("_agent", "_encoded", "_room", "awaits", "before", "changed", "expires", "waited")

    def __init__(
        self, before: Mapping[str, Any] | None = None, *, agent: str = "", room: int = MOST_BYTES, waited: Suspended | None = None
    ) -> None:
        self.before = dict(before or {})
        self.waited = waited
        self._agent, self._room = agent, room
        self._encoded = {name: msgspec.json.encode(value) for name, value in self.before.items()}
        self.changed = False
        self.awaits: tuple[str, ...] = ()
        self.expires = 0

    def recall(self, name: str, default: Any = None) -> Any:
        """A copy of the value, as JSON gives it back."""
        return msgspec.json.decode(self._encoded[name]) if name in self._encoded else default

    def remember(self, name: str, value: Any) -> None:
        """Keep a JSON value. Raises AgentFailed for what is none, and for what is too much."""
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            raise AgentFailed(f"agent {self._agent} remembers under {name!r:.100}; a name is a text of 1 to {LONGEST_NAME} characters")
        try:
            encoded = msgspec.json.encode(value)
            msgspec.json.encode(name)
            msgspec.json.decode(encoded)
        except (TypeError, ValueError, RecursionError) as error:
            raise AgentFailed(f"agent {self._agent}: what it remembers as {name!r:.100} is no JSON: {error}") from None
        size = sum(map(len, {**self._encoded, name: encoded}.values()))
        if size > self._room:
            raise AgentFailed(
                f"agent {self._agent} remembers {size} bytes with {name!r:.100}; {max(0, self._room)} are left to it, of {MOST_BYTES} for "
                f"one memory and {MOST_IN_ALL} for all of a partition: forget something, or keep a reference to what is large"
            )
        self.changed = self.changed or self._encoded.get(name) != encoded
        self._encoded[name] = encoded

    def forget(self, name: str) -> None:
        """Keep it no longer."""
        self.changed = self._encoded.pop(name, None) is not None or self.changed

    @property
    def values(self) -> dict[str, Any]:
        return {name: msgspec.json.decode(encoded) for name, encoded in self._encoded.items()}

    def suspend(self, awaits: Sequence[str], expires: int) -> None:
        """Wait for one of these rules, at most `expires` µs."""
        self.awaits, self.expires = tuple(awaits), expires

    def written(self, activation: Activation, decision: str, now: int, kept: int, waits: Suspended | None) -> Memory | None:
        """What the journal is to keep, for `kept` µs; None: nothing has changed. `waits`: what was waited for before, and still is."""
        suspended = waits
        if self.awaits:
            suspended = Suspended(decision=decision, activation=activation, awaits=self.awaits, until=now + self.expires)
        if not self.changed and suspended == self.waited:
            return None
        return Memory(
            correlation=activation.correlationid, key=activation.key, values=msgspec.Raw(msgspec.json.encode(self.values)),
            until=now + max(kept, self.expires), suspended=suspended,
        )  # fmt: skip


def kept(memory: Memory) -> dict[str, Any]:
    """All of a memory but its values, as a record keeps it."""
    told = {"correlation": memory.correlation, "key": memory.key, "until": memory.until}
    return told if memory.suspended is None else {**told, "suspended": msgspec.to_builtins(memory.suspended)}


def memory_of(told: str, values: str) -> Memory:
    """The memory that a record kept: two JSON texts. Raises msgspec.ValidationError, msgspec.DecodeError."""
    found = msgspec.json.decode(told, type=_Kept)
    return Memory(**msgspec.structs.asdict(found), values=msgspec.Raw(values.encode()))


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    correlation: str
    key: str
    until: int
    suspended: Suspended | None = None


class Remembering(Protocol):
    """A decision as the journal has it."""

    @property
    def memory(self) -> Memory | None: ...


class Memories:
    """The memories of all agents of a process, by the name of the journal that they stand in. Thread-safe.

    What an agent kept in a former life of the broker stands in no journal of this one; the first that asks for its key takes it over.
    """

    def __init__(self) -> None:
        self._former: dict[str, dict[str, list[Memory]]] = {}
        self._kept: dict[str, dict[tuple[str, str], Memory]] = {}
        self._size: dict[str, int] = {}
        self._waiting: dict[str, dict[str, dict[tuple[str, str], None]]] = {}
        self._lock = threading.Lock()

    def learn(self, agent: str, memories: Iterable[Memory]) -> None:
        """What an agent kept in former lives of the broker: told before the first decision of this one."""
        with self._lock:
            for memory in memories:
                self._former.setdefault(agent, {}).setdefault(memory.key, []).append(memory)

    def draft(self, agent: str, journal: str, activation: Activation, now: int) -> Draft:
        """For one attempt of an agent at `now` (µs)."""
        if not self._former and not self._kept.get(journal):  # most agents remember nothing
            return Draft(agent=agent)
        with self._lock:
            self._take_over(journal, activation.key)
            known = self._kept.get(journal, {}).get((activation.correlationid, activation.key))
            own = known.size if known is not None else 0
            room = min(MOST_BYTES, MOST_IN_ALL - self._size.get(journal, 0) + own)
        if known is None or known.until <= now:
            return Draft(agent=agent, room=room)
        return Draft(msgspec.json.decode(known.values), agent=agent, room=room, waited=known.suspended)

    def suspended(self, journal: str, activation: Activation, now: int) -> Memory | None:
        """What waits for this activation: under its own correlation id, else the one that has waited longest."""
        if not self._former and not self._waiting.get(journal):
            return None
        with self._lock:
            self._take_over(journal, activation.key)
            kept = self._kept.get(journal, {})
            places = self._waiting.get(journal, {}).get(activation.key, ())
            found = [kept[place] for place in places if _waits_for(kept[place], activation.rule, now)]
        own = [memory for memory in found if memory.correlation == activation.correlationid]
        return next(iter([*own, *found]), None)

    def next_lapse(self, journal: str) -> int | None:
        """When the next suspension ends unanswered (µs)."""
        if not self._waiting.get(journal):
            return None
        with self._lock:
            kept = self._kept.get(journal, {})
            waiting = [kept[place] for places in self._waiting.get(journal, {}).values() for place in places]
            return min((memory.suspended.until for memory in waiting if memory.suspended is not None), default=None)

    def lapsed(self, journal: str, now: int) -> list[Suspended]:
        """The suspensions that ended unanswered, each told once."""
        if not self._waiting.get(journal):
            return []
        with self._lock:
            kept = self._kept.get(journal, {})
            over = [memory for memory in kept.values() if memory.suspended is not None and memory.suspended.until <= now]
        self.keep(journal, [msgspec.structs.replace(memory, suspended=None) for memory in over])
        return [memory.suspended for memory in over if memory.suspended is not None]

    def keep(self, journal: str, said: "Iterable[Memory | Remembering]") -> None:
        """What a snapshot and then the journal's decisions say, in its order. A memory without values is kept no longer."""
        told = (each if isinstance(each, Memory) else each.memory for each in said)
        memories = [memory for memory in told if memory is not None]
        if not memories:
            return
        with self._lock:
            for memory in memories:
                self._take_over(journal, memory.key)
                self._keep(journal, memory)

    def kept(self, journal: str, now: int) -> list[Memory]:
        """For a snapshot; what is too old is let go of."""
        with self._lock:
            kept = self._kept.get(journal, {})
            for memory in [memory for memory in kept.values() if memory.until <= now and memory.suspended is None]:
                self._drop(journal, memory.place)
            return list(kept.values())

    def _take_over(self, journal: str, key: str) -> None:
        """What former lives left for a key stands in this journal from now on."""
        for memory in self._former.get(journal.partition("/")[0], {}).pop(key, ()):
            self._keep(journal, memory)

    def _keep(self, journal: str, memory: Memory) -> None:
        kept = self._kept.setdefault(journal, {})
        self._drop(journal, memory.place)
        if bytes(memory.values) != b"{}" or memory.suspended is not None:
            kept[memory.place] = memory
            self._size[journal] = self._size.get(journal, 0) + memory.size
        if memory.suspended is not None:
            self._waiting.setdefault(journal, {}).setdefault(memory.key, {})[memory.place] = None

    def _drop(self, journal: str, place: tuple[str, str]) -> None:
        before = self._kept[journal].pop(place, None)
        if before is None:
            return
        self._size[journal] -= before.size
        waiting = self._waiting.get(journal, {})
        if place in waiting.get(before.key, {}):
            del waiting[before.key][place]
            if not waiting[before.key]:
                del waiting[before.key]


def _waits_for(memory: Memory, rule: str, now: int) -> bool:
    return memory.suspended is not None and rule in memory.suspended.awaits and memory.suspended.until > now
