"""A bridge as an application declares it: which topics cross to which region, and which way. Frozen data; `bridging` runs it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from headwater.lineage.errors import Misused
from headwater.lineage.topic import INTERNAL, Topic

Direction = Literal["send", "receive"]
Carried: TypeAlias = Topic[Any] | str
"""A topic, a topic's name, or a pattern (it begins with `^`)."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Bridge:
    """A link to the broker of another region: `Bridge("eu", topics=[flights, "^plans\\..*"])`.

    name     the region; `HEADWATER_BRIDGE__<NAME>__BOOTSTRAP_SERVERS` says where its broker is
    topics   what crosses: Topics, names, or patterns, which are matched with all of a topic's name, also of topics made later
    send     from here to there: all of `topics`, none, or those given
    receive  from there to here: all of `topics`, none, or those given
    relay    whether events that came over a bridge go on over this one. Without it no event takes a second bridge, so that regions
             may all be linked to each other; with it there must be one way between any two regions (a chain, a star, a ring one way)
    hops     how many brokers an event may have passed; one that passed more is a dead letter
    """

    name: str
    topics: Sequence[Carried] = ()
    send: bool | Sequence[Carried] = True
    receive: bool | Sequence[Carried] = True
    relay: bool = False
    hops: int = 8

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise Misused(f"bridge {self.name!r}: a region's name has small letters, digits and single dashes, and begins with a letter")
        if self.hops < 1:
            raise Misused(f"bridge {self.name}: hops={self.hops} must be at least 1")
        carried = [*self.carried("send"), *self.carried("receive")]
        if not carried:
            raise Misused(f"bridge {self.name} carries nothing: give it topics=[…], and send or receive")
        for one in carried:
            if isinstance(one, str):
                _check(self.name, one)

    def carried(self, direction: Direction) -> Sequence[Carried]:
        """What crosses in one direction, as declared."""
        chosen = self.send if direction == "send" else self.receive
        if isinstance(chosen, bool):
            return self.topics if chosen else ()
        return chosen

    def names(self, direction: Direction, existing: Iterable[str]) -> list[str]:
        """Which of the existing topics cross."""
        wanted = [one if isinstance(one, str) else one.name for one in self.carried(direction)]
        patterns = [re.compile(one) for one in wanted if one.startswith("^")]
        plain = {one for one in wanted if not one.startswith("^")}
        return sorted(
            name
            for name in existing
            if name in plain or (not name.startswith((INTERNAL, "__")) and any(pattern.fullmatch(name) for pattern in patterns))
        )

    def named(self, direction: Direction) -> list[str]:
        """The topics that cross and are called by name."""
        names = {one if isinstance(one, str) else one.name for one in self.carried(direction)}
        return sorted(name for name in names if not name.startswith("^"))

    @property
    def declared(self) -> list[Topic[Any]]:
        """The topics given as such."""
        found = {id(one): one for one in (*self.carried("send"), *self.carried("receive")) if isinstance(one, Topic)}
        return list(found.values())


def _check(bridge: str, text: str) -> None:
    if not text.startswith("^"):
        if text.startswith(INTERNAL):
            raise Misused(f"bridge {bridge}: {text} is headwater's own; only topics of the application cross")
        return
    try:
        re.compile(text)
    except re.error as error:
        raise Misused(f"bridge {bridge}: {text!r} is no pattern: {error}") from None
