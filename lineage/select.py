"""Selective subscription: which of a topic's events a subscriber sees at all, told by headers, before anything is decoded.

A message in structured mode keeps its attributes in its value: of such a one headers tell nothing (`wants` answers None), its event does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from headwater.lineage.errors import Misused
from headwater.lineage.event import JSON, STRUCTURED, Event

PRIORITIES = ("low", "normal", "high")
NORMAL = "normal"
PRIORITY, ORIGIN = "priority", "origin"
"""The event's extensions that every gateway sets: how urgent it is, and by which gateway it came in."""

Words: TypeAlias = str | tuple[str, ...]


@dataclass(frozen=True)
class Select:
    """What a document type or a rule wants to see: events that fit every field given. A field is one value or a tuple of them.

    priority      low, normal, high; an event without one is `normal`
    origin        the gateway it came by, such as `http`, `webhook/crm`, `drop/inbox`; `drop/*`: all whose origin begins so
    type          the CloudEvents type; a trailing `*` as above
    content_type  the media type without parameters, such as `application/json`
    """

    priority: Words = ()
    origin: Words = ()
    type: Words = ()
    content_type: Words = ()

    def __post_init__(self) -> None:
        for name in ("priority", "origin", "type", "content_type"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        if wrong := [each for each in self.priority if each not in PRIORITIES]:
            raise Misused(f"select: priority={wrong[0]!r} is none of {', '.join(PRIORITIES)}")
        if not any((self.priority, self.origin, self.type, self.content_type)):
            raise Misused("select: give at least one of priority, origin, type, content_type; leave select= out to see every event")

    def wants(self, headers: Sequence[tuple[str, bytes | None]], topic: str) -> bool | None:
        """Whether a Kafka message is wanted, by its raw headers; None: they do not tell, its event does.

        Of a header given twice the last counts.
        """
        found = {_name(name): value for name, value in headers if value is not None}
        content = found.get("content-type", _JSON)
        if content.startswith(_STRUCTURED):
            return None
        told = (
            found.get("ce_priority") or _NORMAL, found.get("ce_origin", b""), found.get("ce_type") or topic.encode(), _media(content),
        )  # fmt: skip
        return all(one.fits(value) for one, value in zip(self._terms, told, strict=True))

    def wants_event(self, event: Event) -> bool:
        """The same of an event."""
        more = event.extensions
        told = (more.get(PRIORITY) or NORMAL, more.get(ORIGIN, ""), event.type, event.datacontenttype)
        given = [text.encode() for text in told]
        given[3] = _media(given[3])
        return all(one.fits(value) for one, value in zip(self._terms, given, strict=True))

    @cached_property
    def _terms(self) -> tuple["_Term", ...]:
        return tuple(_Term(tuple(words)) for words in (self.priority, self.origin, self.type, tuple(map(str.lower, self.content_type))))


class _Term:
    """The values one attribute may have; none: any."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self._any = not words
        self._exact = frozenset(word.encode() for word in words if not word.endswith("*"))
        self._begins = tuple(word[:-1].encode() for word in words if word.endswith("*"))

    def fits(self, value: bytes) -> bool:
        return self._any or value in self._exact or (bool(self._begins) and value.startswith(self._begins))


def together(selects: Iterable["Select | None"]) -> tuple[Select, ...]:
    """What the subscribers of a topic select, all told; nothing if one of them wants to see everything (or there is none)."""
    given = list(selects)
    return () if None in given else tuple(dict.fromkeys(one for one in given if one is not None))


def unwanted(selects: Sequence[Select], headers: Sequence[tuple[str, bytes | None]], topic: str) -> bool:
    """Whether headers say that none of the subscribers wants a message."""
    return bool(selects) and all(one.wants(headers, topic) is False for one in selects)


_JSON, _STRUCTURED, _NORMAL = JSON.encode(), STRUCTURED.encode(), NORMAL.encode()


def _name(name: str) -> str:
    return "content-type" if len(name) == 12 and name.lower() == "content-type" else name


def _media(raw: bytes) -> bytes:
    return raw.partition(b";")[0].strip().lower()
