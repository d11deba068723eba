"""A poll at work: what did not change costs one question, no item counts twice, and a server in trouble is left in peace."""

import email.utils
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import msgspec
import structlog

from headwater.flows.foreign import at
from headwater.flows.parcel import Sender
from headwater.flows.poll import Poll
from headwater.flows.run_file import write_whole
from headwater.lineage.duration import duration, from_datetime
from headwater.lineage.errors import HeadwaterError, Oversized, Unavailable, Undecodable

_log = structlog.get_logger("headwater.polling")

LONGEST_S = 3600.0
"""The longest pause after failures."""
LONGEST_RETRY_AFTER_S = 86_400.0
REDIRECTS = 3
BURIED = 10_000
"""Items whose dead letters are remembered, so that a server that goes on telling them is not written down again and again."""


class Memory(msgspec.Struct):
    """What a poll remembers over restarts, written after the broker has the items."""

    url: str
    cursor: str | None = None
    etag: str | None = None
    modified: str | None = None


class Polling:
    """A poll at work. `random` (0 to 1) jitters its pauses after failures; `keys` are headers with secrets."""

    def __init__(
        self, poll: Poll, memory: Path, sender: Sender, clock: Callable[[], int], random: Callable[[], float], keys: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.origin = poll.origin
        self._poll, self._memory, self._sender, self._clock, self._random = poll, memory, sender, clock, random
        self._client = httpx.Client(
            headers={"user-agent": "headwater", "accept": "application/json", **poll.headers, **keys},
            timeout=duration(poll.timeout) / 1e6, follow_redirects=False,
        )  # fmt: skip
        self._known = self._recall()
        self._failures = 0
        self._buried: dict[str, None] = {}
        self._counts = {"asked": 0, "unchanged": 0, "items": 0, "buried": 0}
        self._trouble = ""

    def turn(self) -> float:
        """Ask once, and send what came. Gives the seconds until the next question. Raises Unavailable: the broker does not answer."""
        self._counts["asked"] += 1
        try:
            answer = self._ask()
        except HeadwaterError as error:
            return self._failed(error)
        self._failures, self._trouble = 0, ""
        if answer is None:
            self._counts["unchanged"] += 1
            return self._every
        body, etag, modified = answer
        try:
            payload = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._failed(Undecodable(f"the answer is not JSON: {error}"))
        many = self._send(payload)
        cursor = self._cursor(payload)
        moved = cursor != self._known.cursor
        # An ETag is of one address, cursor included.
        self._remember(Memory(self._poll.url, cursor, None if moved else etag, None if moved else modified))
        return 0.0 if moved and many else self._every

    def status(self) -> dict[str, Any]:
        return {
            "gateway": self.origin, "into": self._poll.into.name, **self._counts, "cursor": self._known.cursor, "trouble": self._trouble,
        }  # fmt: skip

    def close(self) -> None:
        self._client.close()

    @property
    def _every(self) -> float:
        return duration(self._poll.every) / 1e6

    def _send(self, payload: Any) -> int:
        found = at(payload, self._poll.items)
        values = found if isinstance(found, list) else [] if found is None else [found]
        items = [item for item in map(self._poll.item, values) if item.id not in self._buried]
        sent = self._sender.send(items, once=True)
        self._counts["items"] += len(sent.positions) - sent.buried
        self._counts["buried"] += sent.buried
        for id in sent.refused:
            self._buried[id] = None
        while len(self._buried) > BURIED:
            del self._buried[next(iter(self._buried))]
        return len(values)

    def _cursor(self, payload: Any) -> str | None:
        """What to send next time; an answer that does not say keeps the one there is."""
        if self._poll.cursor is None:
            return None
        told = at(payload, self._poll.cursor[0])
        return self._known.cursor if told is None or isinstance(told, (dict, list)) else str(told)

    def _ask(self) -> tuple[bytes, str | None, str | None] | None:
        """Body, ETag and Last-Modified of the answer; None: nothing changed. Raises Unavailable, Oversized, Misused."""
        url = httpx.URL(self._poll.url)
        if self._poll.cursor is not None and self._known.cursor is not None:
            url = url.copy_merge_params({self._poll.cursor[1]: self._known.cursor})
        headers = {"if-none-match": self._known.etag, "if-modified-since": self._known.modified}
        for _ in range(REDIRECTS + 1):
            try:
                with self._client.stream("GET", url, headers={name: value for name, value in headers.items() if value}) as response:
                    if response.status_code == 304:
                        return None
                    if response.is_redirect:
                        url = self._redirected(url, response)
                        continue
                    if response.status_code != 200:
                        raise self._refused(response)
                    return self._read(response), response.headers.get("etag"), response.headers.get("last-modified")
            except httpx.HTTPError as error:
                raise Unavailable(f"{self._poll.url} does not answer: {type(error).__name__} {error}") from None
        raise Unavailable(f"{self._poll.url} redirects more than {REDIRECTS} times")

    def _redirected(self, url: httpx.URL, response: httpx.Response) -> httpx.URL:
        """Where it points, on the same host only: our headers may hold a secret."""
        there = httpx.URL(urljoin(str(url), response.headers.get("location", "")))
        if (there.scheme, there.host, there.port) != (url.scheme, url.host, url.port):
            raise Unavailable(f"{self._poll.url} redirects to another host, {there.host}; name that address in the Poll if it is right")
        return there

    def _refused(self, response: httpx.Response) -> Unavailable:
        error = Unavailable(f"{self._poll.url} answers {response.status_code} {response.reason_phrase}")
        if (after := _seconds(response.headers.get("retry-after", ""), self._clock())) is not None:
            error.details["retry_after"] = min(after, LONGEST_RETRY_AFTER_S)
        return error

    def _read(self, response: httpx.Response) -> bytes:
        pieces: list[bytes] = []
        size = 0
        for piece in response.iter_bytes():
            size += len(piece)
            if size > self._poll.max_bytes:
                raise Oversized(f"{self._poll.url} answers more than max_bytes={self._poll.max_bytes}")
            pieces.append(piece)
        return b"".join(pieces)

    def _failed(self, error: HeadwaterError) -> float:
        """How long to wait: as the server says, else twice as long each time, up to an hour, jittered."""
        self._failures += 1
        self._trouble = str(error)
        told = error.details.get("retry_after")
        pause: float = min(self._every * 2 ** min(self._failures - 1, 20), max(LONGEST_S, self._every)) * (0.5 + self._random() / 2)
        if told is not None:
            pause = max(pause, float(told))
        _log.warning("not polled; trying again", gateway=self.origin, error=str(error), seconds=round(pause, 1), failures=self._failures)
        return pause

    def _recall(self) -> Memory:
        if self._memory.is_file():
            known = msgspec.json.decode(self._memory.read_bytes(), type=Memory)
            if known.url == self._poll.url:
                return known
        return Memory(self._poll.url)

    def _remember(self, known: Memory) -> None:
        if known != self._known:
            write_whole(self._memory, msgspec.json.encode(known).decode())
            self._known = known


def _seconds(text: str, now: int) -> float | None:
    """Seconds of a Retry-After: a number, or a date."""
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, (from_datetime(email.utils.parsedate_to_datetime(text)) - now) / 1e6)
    except (ValueError, TypeError):
        return None
