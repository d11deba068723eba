"""The fingerprint of an index: by which model, chunkers and document functions its content was made."""

import dataclasses
import hashlib
import inspect
from collections.abc import Iterable
from typing import Any

import msgspec

from headwater.enrichers.chunker import Chunker
from headwater.enrichers.document import DocumentType
from headwater.enrichers.embed import Embedder
from headwater.enrichers.engine import Index, Storage
from headwater.lineage.topic import fields_of

KEPT = "fingerprint"


class Kind(msgspec.Struct, frozen=True):
    """What the content of one document type rests on; `function` is a digest of its source and of the model's fields."""

    topic: str
    function: str
    chunker: str
    version: str


class Fingerprint(msgspec.Struct, frozen=True):
    """What the content of an index rests on. `size` of the vectors; `kinds` by document type; `storage` how vectors are kept."""

    model: str
    size: int
    kinds: dict[str, Kind]
    storage: str = str(tuple(Storage()))

    @property
    def vectors(self) -> tuple[str, int]:
        """What makes vectors comparable."""
        return self.model, self.size

    def since(self, former: "Fingerprint") -> dict[str, str]:
        """What changed: document type, or "" for all of them → in words."""
        told: dict[str, str] = {}
        if self.vectors != former.vectors:
            told[""] = f"the model was {former.model} ({former.size} dimensions), is {self.model} ({self.size})"
        elif self.storage != former.storage:
            told[""] = "vectors are to be stored otherwise (quantization, on disk)"
        for name in sorted({*self.kinds, *former.kinds}):
            if words := _changed(former.kinds.get(name), self.kinds.get(name)):
                told[name] = words
        return told


def fingerprint(embedder: Embedder, types: Iterable[DocumentType], storage: Storage = Storage()) -> Fingerprint:
    """Of an application as it is now. Loads no model."""
    kinds = {kind.name: Kind(kind.topic.name, _function(kind), described(kind.chunk), kind.version) for kind in types}
    return Fingerprint(embedder.name, embedder.size, kinds, str(tuple(storage)))


def stored(index: Index) -> Fingerprint | None:
    """Of the content of an index; None: not known, as with one made by headwater 0.1, or one that was never written."""
    value = index.kept(KEPT)
    return None if value is None else msgspec.convert(value, Fingerprint)


def keep(index: Index, print: Fingerprint) -> None:
    """Say what the content of an index rests on."""
    index.keep(KEPT, msgspec.to_builtins(print))


def described(chunker: Chunker) -> str:
    """A chunker in words that change when it cuts otherwise: its name, its parameters, and of one that is not ours its source."""
    kind = type(chunker)
    fields: dict[str, Any] = dataclasses.asdict(chunker) if dataclasses.is_dataclass(chunker) else {}
    told = f"{kind.__name__}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"
    return told if kind.__module__ == Chunker.__module__ else f"{told} {_digest(_source(kind))}"


def _function(kind: DocumentType) -> str:
    return _digest(_source(kind.function) + repr(sorted(fields_of(kind.topic.model))))


def _source(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):  # made without a file: its code says what it does
        code = getattr(thing, "__code__", None)
        return f"{code.co_code!r}{code.co_consts!r}{code.co_names!r}" if code is not None else repr(type(thing))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _changed(former: Kind | None, now: Kind | None) -> str:
    if former is None or now is None:
        return "" if former is now else "is new" if former is None else "is no longer declared: a rebuild leaves its documents out"
    told = []
    if former.chunker != now.chunker:
        told.append(f"the chunker was {former.chunker}, is {now.chunker}")
    if former.function != now.function:
        told.append("the document function or its model changed")
    if (former.topic, former.version) != (now.topic, now.version):
        told.append(f"topic and version were {former.topic}, {former.version}; are {now.topic}, {now.version}")
    return "; ".join(told)
