"""Documents: what events say about one thing. Document → chunks → points."""

import functools
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from headwater.enrichers.chunker import Chunker, Markdown
from headwater.lineage.errors import Misused
from headwater.lineage.event import Event
from headwater.lineage.naming import naming
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic, fields_of

NAMESPACE = uuid.UUID("6f9c4a1e-7a55-5d0c-9a3f-3e0b9d1c2a77")
_named = naming(NAMESPACE)
LARGEST_VERSION = 2**53 - 1

Field: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Document:
    """The current text about one thing, and the fields that searches may filter on."""

    id: str
    text: str
    fields: Mapping[str, Field] = field(default_factory=dict)


@dataclass(frozen=True)
class Delete:
    """The thing is gone: its document must never be found again, late older versions included."""

    id: str


@dataclass(frozen=True)
class Chunk:
    """A retrievable piece of a document: `n` counts from 0, `section` is the heading it stands under."""

    n: int
    text: str
    hash: str
    section: str = ""

    @property
    def passage(self) -> str:
        return passage(self.section, self.text)


DocumentFunction: TypeAlias = Callable[[Any, Mapping[str, Any]], Document | Delete | None]


@dataclass(frozen=True, eq=False)
class DocumentType:
    """A kind of document: which topic speaks of it, how events become text, and what orders its versions.

    version   `"time"`: the event time in µs; or the name of an integer field of the topic's model (a sequence below 2^53)
    select    which of the topic's events it sees at all, by their headers; None: every one
    chunk     how its texts are cut
    """

    name: str
    topic: Topic[Any]
    function: DocumentFunction
    version: str = "time"
    select: Select | None = None
    chunk: Chunker = field(default_factory=Markdown)

    def __post_init__(self) -> None:
        if self.version != "time" and self.version not in fields_of(self.topic.model):
            raise Misused(f"document {self.name}: version={self.version!r} is neither 'time' nor a field of {self.topic.model.__name__}")
        if not isinstance(self.chunk, Chunker):
            raise Misused(f"document {self.name}: chunk={self.chunk!r} has no method `pieces`; use Markdown, Tokens, Records or your own")

    def wants(self, event: Event) -> bool:
        """Whether it sees this event at all."""
        return self.select is None or self.select.wants_event(event)

    def version_of(self, model: Any, time: int) -> int:
        """What orders this event among those about the same document. Raises Misused."""
        version = time if self.version == "time" else getattr(model, self.version)
        if not isinstance(version, int) or not 0 <= version <= LARGEST_VERSION:
            raise Misused(f"document {self.name}: version {version!r} is not an integer from 0 to 2^53-1")
        return version

    def __call__(self, model: Any, facts: Mapping[str, Any]) -> Document | Delete | None:
        return self.function(model, facts)


def document(
    topic: Topic[Any], *, version: str = "time", select: Select | None = None, chunk: Chunker | None = None
) -> Callable[[DocumentFunction], DocumentType]:
    """Declare a document function over a topic; it returns a Document, a Delete or None (nothing to say: `passed`)."""

    def declare(function: DocumentFunction) -> DocumentType:
        return DocumentType(getattr(function, "__name__", "document"), topic, function, version, select, chunk or Markdown())

    return declare


@dataclass(frozen=True)
class Files:
    """Text files as documents. `headwater up` publishes them at start and again when they change.

    pattern   a glob, relative to the application file
    since     the instant (RFC 3339) from which searches into the past see them; None: the file's modification time
    """

    pattern: str
    since: str | None = None

    def paths(self, root: Path) -> list[Path]:
        return sorted(path for path in root.glob(self.pattern) if path.is_file())


def passage(section: str, text: str) -> str:
    """What is embedded and matched: a piece of text under its headings. A chunk's hash is of this."""
    return f"{section}\n{text}" if section else text


def tie_of(event_id: str) -> int:
    """What breaks ties between equal versions: 52 bits of the event id's UUIDv5, for engines compare floats, not text."""
    return int(_named(event_id)[:15].replace("-", ""), 16)


def point_id(document: str, version: int, event_id: str, n: int) -> str:
    """A chunk's point: never overwritten, for every version has its own."""
    return _named(f"{document}\x1f{version}\x1f{event_id}\x1f{n}")


@functools.lru_cache(maxsize=100_000)
def head_id(document: str) -> str:
    """A document's head point."""
    return _named(f"{document}\x1fhead")


def unique(names: Iterable[str], what: str) -> None:
    """Raises Misused if a name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Misused(f"two {what} are called {name!r}; give each a name of its own")
        seen.add(name)
