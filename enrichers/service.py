"""Http: facts from a service that is asked over HTTP, many questions at once, each answer kept for a while."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from headwater.enrichers.asking import Asking
from headwater.enrichers.enrich import Answer, Known
from headwater.enrichers.row import value_of
from headwater.lineage.decode import Received
from headwater.lineage.duration import duration
from headwater.lineage.errors import EnricherFailed, Misused
from headwater.lineage.named_secret import secret


@dataclass(frozen=True, eq=False)
class Http:
    """`Http("https://planes.example/v1/planes/{tailnum}", on="tailnum", ttl="10m")`: the JSON that a service answers.

    url       with `{FIELD}` in path or query for each field of `on`; values are percent-encoded, the host is what stands here,
              and no redirect is followed
    on        the field or fields of the event's model; where one is None or empty nothing is asked, and the facts are None
    ttl       how long an answer is kept;  most  answers kept, the ones used longest ago are forgotten first
    timeout   of one question;  at_once  questions under way;  max_bytes  of an answer
    unknown   statuses that mean "no such thing": facts None
    on_error  "fail": time-outs, refused connections, 408, 425, 429 and 5xx are tried again on the retry ladder, anything else is a dead
              letter; "none": facts None
    headers   to send;  secrets  header → the name of the variable that holds its value

    A service of which a whole batch got no answer rests for a second, then two, up to a minute: its questions fail at once meanwhile.
    """

    url: str
    _: KW_ONLY
    on: str | tuple[str, ...]
    ttl: str = "5m"
    most: int = 10_000
    timeout: str = "2s"
    at_once: int = 16
    max_bytes: int = 1_000_000
    unknown: tuple[int, ...] = ()
    on_error: Literal["fail", "none"] = "fail"
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    _asking: list[Asking] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        what = f"Http({self.url!r})"
        fields = _fields(self.url, what)
        if set(fields) != set(self.names):
            raise Misused(f"{what}: on={self.on!r} must name exactly the fields in the address: {', '.join(fields) or 'there are none'}")
        for name, many in (("most", self.most), ("at_once", self.at_once), ("max_bytes", self.max_bytes)):
            if many < 1:
                raise Misused(f"{what}: {name}={many} must be at least 1")
        if duration(self.timeout) <= 0 or duration(self.ttl) < 0:
            raise Misused(f"{what}: timeout={self.timeout!r} must be more than nothing")
        if self.on_error not in ("fail", "none"):
            raise Misused(f"{what}: on_error={self.on_error!r} is neither 'fail' nor 'none'")

    @property
    def names(self) -> tuple[str, ...]:
        return (self.on,) if isinstance(self.on, str) else self.on

    @property
    def reads(self) -> str:
        """The address as declared: what stands for the fields, the event says."""
        return self.url

    def facts(self, model: Any, time: int) -> Any:
        """What the service says of one event. Raises EnricherFailed, Unavailable."""
        [answer] = self._answers([model])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def facts_of(self, received: Sequence[Received]) -> list[Answer]:
        """The same of many, each address asked once."""
        answers = self._answers([one.model for one in received])
        return [answer if isinstance(answer, Exception) else Known(answer, self.reads) for answer in answers]

    def address(self, model: Any) -> str | None:
        """What is asked for an event; None: nothing. Raises EnricherFailed for a value that would lead to another path."""
        values = {name: value_of(model, name) for name in self.names}
        if any(value is None or str(value) == "" for value in values.values()):
            return None
        for name, value in values.items():
            if str(value) in (".", ".."):
                raise EnricherFailed(f"{name}={str(value)!r} cannot stand in an address: it means another path")
        return self.url.format_map({name: quote(str(value), safe="", errors="replace") for name, value in values.items()})

    def close(self) -> None:
        """Let go of connections; the next question opens new ones."""
        while self._asking:
            self._asking.pop().close()

    def _answers(self, models: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for model in models:
            try:
                found.append(self.address(model))
            except Exception as error:
                found.append(error)
        asked = list(dict.fromkeys(address for address in found if isinstance(address, str)))
        answers = dict(zip(asked, self._open().ask(asked), strict=True)) if asked else {}
        settled = [answers[one] if isinstance(one, str) else one for one in found]
        return [None if self.on_error == "none" and isinstance(one, Exception) else one for one in settled]

    def _open(self) -> Asking:
        if not self._asking:
            what = f"Http({self.url!r})"
            keys = {header: secret(variable, what).decode() for header, variable in self.secrets.items()}
            self._asking.append(
                Asking(
                    headers={**self.headers, **keys}, timeout_s=duration(self.timeout) / 1e6, ttl_s=duration(self.ttl) / 1e6,
                    most=self.most, at_once=self.at_once, max_bytes=self.max_bytes, unknown=frozenset(self.unknown),
                )
            )  # fmt: skip
        return self._asking[0]


def _fields(url: str, what: str) -> list[str]:
    """The fields that an address names. Raises Misused unless they stand in path or query alone, and the host is given."""
    try:
        parsed = list(string.Formatter().parse(url))
        parts = urlsplit(url)
    except ValueError as error:
        raise Misused(f"{what} is no address: {error}") from None
    fields = [name for _, name, _, _ in parsed if name is not None]
    plain = all(name.isidentifier() and not form and not conversion for _, name, form, conversion in parsed if name is not None)
    if not plain:
        raise Misused(f"{what}: write {{FIELD}} for a field of the event, and nothing else in braces")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misused(f"{what} must begin with https:// or http:// and name a host")
    if "@" in parts.netloc:
        raise Misused(f"{what}: put no user or password into the address; name them in secrets=")
    if "{" in parts.netloc or "{" in parts.fragment:
        raise Misused(f"{what}: a field may stand in the path or the query only; an event does not say which host is asked")
    return list(dict.fromkeys(fields))
