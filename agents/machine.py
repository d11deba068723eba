"""A rule at work: a small pure state machine per key, over events in event-time order. No clock, no I/O; the detector drives it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypedDict

from headwater.agents.activation import Phase
from headwater.agents.hops import NONE, Hops
from headwater.agents.order import NEVER
from headwater.agents.when import Input


class Entry(NamedTuple):
    """One event as rules remember it. `partition` counts through all partitions that its detector looks at."""

    time: int
    id: str
    partition: int
    offset: int
    thing: str
    value: float
    appended: int
    hops: Hops = NONE
    reads: Mapping[str, Any] | None = None


class Mind(TypedDict):
    """What any rule remembers of one key; each kind of rule adds to it. Plain data, for it goes into snapshots.

    level    the last measured level
    episode  id of the activation that opened the running episode, "" if none runs;  reported  its furthest reported level
    at       event time of the last firing;  cool  no episode opens before this event time
    armed    the deadline that is set for this key; NEVER: none
    hops     of the last firing: what fires without an event (a window that emptied) follows from it
    """

    level: float
    episode: str
    reported: float
    at: int
    cool: int
    armed: int
    hops: Hops


def mind() -> Mind:
    """A key that nothing is known of."""
    return Mind(level=0.0, episode="", reported=0.0, at=NEVER, cool=NEVER, armed=NEVER, hops=NONE)


class Fired(NamedTuple):
    """What a machine says has happened: `many` of `total`. `causes` newest first; `value=None`: the level."""

    phase: Phase
    causes: Iterable[Entry] = ()
    many: int = 0
    total: int = 0
    value: float | None = None


class Machine(Protocol):
    """A rule's machine; `known` is what it remembers of the key in question, changed in place.

    An opening may be held back (cool-down): whether an episode runs is told by `known["episode"]` alone.
    """

    def begin(self) -> Any:
        """The mind of a key that nothing is known of."""
        ...

    def take(self, known: Any, stream: int, entry: Entry) -> Fired | None:
        """The next event of one of the rule's inputs. What fell due before its time has been expired."""
        ...

    def due(self, known: Any) -> int | None:
        """The event time at which something happens without any further event, or is forgotten; None: nothing will."""
        ...

    def expire(self, known: Any, moment: int) -> Fired | None:
        """What is due at this moment happens; `due` is then later, or there is less to expire at the same."""
        ...

    def is_empty(self, known: Any) -> bool:
        """Whether nothing worth keeping is known of the key."""
        ...

    def freeze(self, known: Any) -> dict[str, Any]:
        """The mind as plain data, for a snapshot."""
        ...

    def thaw(self, saved: dict[str, Any]) -> Any:
        """The mind of a snapshot."""
        ...


class Rule(Protocol):
    """What a detector knows of a rule. Whatever answers to this is one."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def cool_down(self) -> str | None: ...

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What it reads; `Machine.take` gets an event once for each input that it says something to, in this order."""
        ...

    @property
    def shape(self) -> str:
        """What its remembered state hangs on: levels may change under a running rule, this may not."""
        ...

    def machine(self) -> Machine: ...


def frozen(entries: Iterable[Entry]) -> list[tuple[Any, ...]]:
    """Entries as plain tuples."""
    return [tuple(entry) for entry in entries]


def thawed(saved: Iterable[Sequence[Any]]) -> list[Entry]:
    """The entries of plain tuples."""
    return [Entry(*one) for one in saved]
