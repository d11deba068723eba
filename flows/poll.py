"""HTTP polling: what a URL answers becomes events. The declaration; `polling` does it."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from headwater.flows.foreign import Convert, Item, check, named
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused, Undecodable
from headwater.lineage.named_secret import secret
from headwater.lineage.select import NORMAL
from headwater.lineage.topic import Topic

NAMESPACE = uuid.UUID("7d2c4b0a-6f7a-5b0d-9e7a-2c1f9a0e8b66")


@dataclass(frozen=True, eq=False)
class Poll:
    """`Poll("https://…/readings", into=readings, every="30s", items="$.data", id="id", cursor=("next", "since"))`.

    every    how often;  timeout  of one question;  max_bytes  of one answer
    items    the dotted path of the array of items, or of one;  model, as_  how an item becomes the topic's data, as for Webhook
    id       the field or fields that name an item; without, its content does. The same id again produces nothing
    time     the dotted field of an item with the event time; None: when it was read
    cursor   (path in the answer, query parameter): what the answer says there is sent with the next question, also after a restart
    headers  to send;  secrets  header → the name of the variable that holds its value
    name     names it in ids and origin; None: the topic's name
    """

    url: str
    _: KW_ONLY
    into: Topic[Any]
    every: str = "1m"
    items: str = "$"
    id: str | tuple[str, ...] = ()
    model: type[Any] | None = None
    as_: Convert | None = None
    time: str | None = None
    cursor: tuple[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    timeout: str = "10s"
    max_bytes: int = 10_000_000
    name: str = ""
    priority: str = NORMAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or getattr(self.into, "name", ""))
        what = f"poll {self.name}"
        check(what, self.into, self.model, self.priority)
        try:
            url = urlsplit(self.url)
        except ValueError as error:
            raise Misused(f"{what}: {self.url!r} is no URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.hostname:
            raise Misused(f"{what}: {self.url!r} must begin with https:// or http:// and name a host")
        if url.password or url.username:
            raise Misused(f"{what}: put no user or password into the URL; name them in secrets=")
        if duration(self.every) < 100_000 or duration(self.timeout) <= 0:
            raise Misused(f"{what}: every={self.every!r} must be at least 100ms, timeout={self.timeout!r} more than nothing")

    @property
    def origin(self) -> str:
        return f"poll/{self.name}"

    @property
    def ids(self) -> tuple[str, ...]:
        return (self.id,) if isinstance(self.id, str) else self.id

    def keys(self) -> dict[str, str]:
        """The headers with secrets. Raises Misused, saying what to set."""
        return {header: secret(variable, f"poll {self.name}").decode() for header, variable in self.secrets.items()}

    def item(self, value: Any) -> Item:
        """One item; its id follows from what names it, or from its content."""
        raw = msgspec.json.encode(value, order="sorted")
        theirs = named(value, self.ids) if self.ids else None
        error = None
        if self.ids and theirs is None:
            error = Undecodable(f"no {' and '.join(self.ids)} in the item: it is its id")
        identity = theirs if theirs is not None else hashlib.sha256(raw).hexdigest()
        place = f"{self.origin}:{identity.replace(chr(0x1F), '/')[:200]}"
        return Item(str(uuid.uuid5(NAMESPACE, f"{self.name}\x1f{identity}")), place, value, raw, error)
