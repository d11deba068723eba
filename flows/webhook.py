"""Webhooks: what other systems call us with, checked for their signature and made the topic's events. Pure; the route is in `web`."""

import base64
import binascii
import hashlib
import hmac
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import msgspec

from headwater.flows.foreign import Convert, check, converted, moment, named, time_of
from headwater.lineage.duration import duration
from headwater.lineage.errors import BadSignature, HeadwaterError, Invalid, Misused, Undecodable
from headwater.lineage.event import Event
from headwater.lineage.named_secret import secret
from headwater.lineage.select import NORMAL
from headwater.lineage.topic import Topic

NAMESPACE = uuid.UUID("a3c6ed0e-2f0a-5d27-9a7a-0b0a6a6f3d11")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ALGORITHMS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}


@dataclass(frozen=True, eq=False)
class Webhook:
    """`POST /v1/webhooks/{name}`: a foreign payload, an object or an array of them, becomes events of a topic.

    into       the topic;  model  a pydantic model that reads the payload by its aliases;  as_  a pure function of it → the topic's data,
               or None for "says nothing". Without: the model's method `to_event`, else its fields by name
    secret     the name of the variable that holds the shared secret (never the secret);  unsigned=True  there is none, take anything
    header     where the signature stands;  algorithm  sha256, sha384, sha512;  encoding  hex or base64;  prefix  such as `sha256=`
    timestamp  a header with the time of sending; it is signed too, as `TIME.BODY` or as `signs` says, and must be within `tolerance`
    signs      what is signed: a text with {body} and, with a timestamp, {timestamp}
    id         what makes a delivery's id: a dotted field of the payload, several, or `header:NAME`. The same id again is answered as the
               first was and produces nothing. Without it every delivery is new
    time       the dotted field of the payload that tells the event time; None: when it came in
    """

    name: str
    _: KW_ONLY
    into: Topic[Any]
    model: type[Any] | None = None
    as_: Convert | None = None
    secret: str | None = None
    unsigned: bool = False
    header: str = "x-signature"
    algorithm: Literal["sha256", "sha384", "sha512"] | str = "sha256"
    encoding: Literal["hex", "base64"] | str = "hex"
    prefix: str = ""
    timestamp: str | None = None
    tolerance: str = "5m"
    signs: str | None = None
    id: str | tuple[str, ...] = ()
    time: str | None = None
    priority: str = NORMAL

    def __post_init__(self) -> None:
        what = f"webhook {self.name}"
        if not _NAME.fullmatch(self.name):
            raise Misused(f"webhook name {self.name!r}: use small letters, digits, dot, dash and underscore, at most 64")
        check(what, self.into, self.model, self.priority)
        if self.secret is None and not self.unsigned:
            raise Misused(f"{what}: name the variable of its secret (secret=…), or say unsigned=True to take what anyone sends")
        if self.secret is not None and self.unsigned:
            raise Misused(f"{what}: it has a secret, so it is not unsigned; give one of the two")
        if self.algorithm not in _ALGORITHMS or self.encoding not in ("hex", "base64"):
            raise Misused(f"{what}: algorithm is one of {', '.join(_ALGORITHMS)}, encoding hex or base64")
        if "{body}" not in self.signed_text or ("{timestamp}" in self.signed_text) != (self.timestamp is not None):
            raise Misused(f"{what}: signs={self.signs!r} must hold {{body}}, and {{timestamp}} exactly if timestamp= names its header")
        duration(self.tolerance)

    @property
    def origin(self) -> str:
        return f"webhook/{self.name}"

    @property
    def signed_text(self) -> str:
        return self.signs or ("{timestamp}.{body}" if self.timestamp else "{body}")

    @property
    def ids(self) -> tuple[str, ...]:
        return (self.id,) if isinstance(self.id, str) else self.id

    def key(self) -> bytes | None:
        """The secret; None for an unsigned one. Raises Misused, saying what to set."""
        return None if self.secret is None else secret(self.secret, f"webhook {self.name}")


def verify(hook: Webhook, key: bytes | None, headers: Mapping[str, str], body: bytes, now: int) -> None:
    """Whether a request is signed as declared, over the raw body. `now` in µs. Raises BadSignature."""
    if key is None:
        return
    given = _header(headers, hook.header)
    if given is None:
        raise BadSignature(f"webhook {hook.name}: the header {hook.header} is missing; sign the request")
    stamp = ""
    if hook.timestamp is not None:
        stamp = _header(headers, hook.timestamp) or ""
        _in_time(hook, stamp, now)
    before, _, after = hook.signed_text.partition("{body}")
    signed = before.replace("{timestamp}", stamp).encode() + body + after.replace("{timestamp}", stamp).encode()
    right = hmac.new(key, signed, _ALGORITHMS[hook.algorithm]).digest()
    # Several signatures in one header: while a sender changes its secret it signs with both.
    candidates = [part.strip() for part in given.split(",")] if "," in given else [given.strip()]
    decoded = [_decoded(part[len(hook.prefix) :], hook.encoding) for part in candidates if part.startswith(hook.prefix)]
    if not any(hmac.compare_digest(right, one) for one in decoded):
        raise BadSignature(f"webhook {hook.name}: the signature in {hook.header} is not that of this body; check the secret on both sides")


def _in_time(hook: Webhook, stamp: str, now: int) -> None:
    sent = moment(stamp)
    if sent is None:
        raise BadSignature(f"webhook {hook.name}: the header {hook.timestamp} tells no time")
    if abs(now - sent) > duration(hook.tolerance):
        ago = f"sent {(now - sent) / 1e6:.0f} s ago, and at most {hook.tolerance} is allowed"
        raise BadSignature(f"webhook {hook.name}: {ago}; set the clocks, if it is no replay")


def _decoded(text: str, encoding: str) -> bytes:
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for known, value in headers.items() if known.lower() == name.lower()), None)


def delivered(hook: Webhook, headers: Mapping[str, str], body: bytes, now: int, ids: Callable[[], str]) -> list[Event]:
    """The events of one delivery; none if its function says nothing. Raises Undecodable, Invalid."""
    try:
        payload = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Undecodable(f"webhook {hook.name}: the body is not JSON: {error}") from None
    items = payload if isinstance(payload, list) else [payload]
    events = []
    for number, item in enumerate(items, 1):
        try:
            data = converted(item, hook.into, hook.model, hook.as_)
            if data is not None:
                at = time_of(item, hook.time, now + number - 1)
                events.append(_event(hook, headers, item, number if isinstance(payload, list) else 0, data, at, ids))
        except HeadwaterError as error:
            place = f"item {number} of {len(items)}: " if isinstance(payload, list) else ""
            raise type(error)(f"webhook {hook.name}: {place}{error}", **error.details) from None
    return events


def _event(hook: Webhook, headers: Mapping[str, str], item: Any, number: int, data: bytes, time: int, ids: Callable[[], str]) -> Event:
    theirs = _theirs(hook, headers, item, number)
    id = ids() if theirs is None else str(uuid.uuid5(NAMESPACE, f"{hook.name}\x1f{theirs}"))
    subject = None if theirs is None else theirs.replace("\x1f", "/")
    return Event(id=id, source=f"headwater/{hook.origin}", type=hook.into.name, time=time, data=data, subject=subject)


def _theirs(hook: Webhook, headers: Mapping[str, str], item: Any, number: int) -> str | None:
    """What the sender calls this delivery; of a batch under one header each item by its number too."""
    if not hook.ids:
        return None
    if hook.ids[0].startswith("header:"):
        name = hook.ids[0].removeprefix("header:")
        if not (found := _header(headers, name)):
            raise Invalid(f"the header {name} is missing: it is the delivery's id")
        return f"{found}/{number}" if number else found
    if (found := named(item, hook.ids)) is None:
        raise Invalid(f"no {' and '.join(hook.ids)} in the payload: it is the delivery's id")
    return found
