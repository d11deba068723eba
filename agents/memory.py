"""Memory: what an agent keeps from one decision for its later ones on the same key under the same correlation id.

It is written with the decision, into its journal, and so is as durable: neither a kill nor another worker loses it, and what an attempt
that failed wanted to keep is not kept. A snapshot holds what lies before the part of the journal that is read back.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import msgspec

from headwater.agents.activation import Activation
from headwater.lineage.errors import AgentFailed

MOST_BYTES = 16_384
"""Of one memory, as JSON."""
MOST_IN_ALL = 8_000_000
"""Of all memories of one agent in one partition: every snapshot holds them."""
LONGEST_NAME = 200


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept under one correlation id for one key: a JSON object of named values, until when (wall clock, µs since 1970)."""

    correlation: str
    key: str
    values: msgspec.Raw
    until: int

    @property
    def place(self) -> tuple[str, str]:
        return (self.correlation, self.key)


class Draft:
    """The memory as one attempt reads and changes it. `room`: bytes that are left for it."""

    def __init__(self, before: Mapping[str, Any] | None = None, *, agent: str = "", room: int = MOST_BYTES) -> None:
        self.before = dict(before or {})
        self._agent, self._room = agent, room
        self._encoded = {name: msgspec.json.encode(value) for name, value in self.before.items()}
        self.changed = False

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

    def written(self, activation: Activation, until: int) -> Memory | None:
        """What the journal is to keep; None: nothing has changed."""
        if not self.changed:
            return None
        values = msgspec.Raw(msgspec.json.encode(self.values))
        return Memory(correlation=activation.correlationid, key=activation.key, values=values, until=until)


class Remembering(Protocol):
    """A decision as the journal has it."""

    @property
    def memory(self) -> Memory | None: ...


class Memories:
    """The memories of all agents of a process, by the name of the journal that they stand in. Thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[tuple[str, str], Memory]] = {}
        self._size: dict[str, int] = {}
        self._lock = threading.Lock()

    def draft(self, agent: str, journal: str, activation: Activation, now: int) -> Draft:
        """For one attempt of an agent at `now` (µs)."""
        with self._lock:
            known = self._kept.get(journal, {}).get((activation.correlationid, activation.key))
            own = len(known.values) if known is not None else 0
            room = min(MOST_BYTES, MOST_IN_ALL - self._size.get(journal, 0) + own)
        alive = known is not None and known.until > now
        return Draft(msgspec.json.decode(known.values) if known is not None and alive else {}, agent=agent, room=room)

    def keep(self, journal: str, said: "Iterable[Memory | Remembering]") -> None:
        """What a snapshot and then the journal's decisions say, in its order. A memory without values is kept no longer."""
        with self._lock:
            kept = self._kept.setdefault(journal, {})
            for each in said:
                memory = each if isinstance(each, Memory) else each.memory
                if memory is None:
                    continue
                before = kept.pop(memory.place, None)
                self._size[journal] = self._size.get(journal, 0) - (len(before.values) if before is not None else 0)
                if bytes(memory.values) != b"{}":
                    kept[memory.place] = memory
                    self._size[journal] += len(memory.values)

    def kept(self, journal: str, now: int) -> list[Memory]:
        """For a snapshot; what is too old is let go of."""
        with self._lock:
            kept = self._kept.get(journal, {})
            for memory in [memory for memory in kept.values() if memory.until <= now]:
                del kept[memory.place]
                self._size[journal] -= len(memory.values)
            return list(kept.values())
