"""The desk of the HTTP door: each request gets a place, at most so many wait, and the broker is waited for in threads of their own.

So a broker that does not answer fills the desk and nothing else: further requests are refused at once, other routes go on answering.
"""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from fastapi import Request

from headwater.flows.gateway import HTTP, Accepted, Gateway
from headwater.flows.limits import PATIENCE_S, Place, Rate, Room
from headwater.flows.lines import Lines
from headwater.lineage.errors import HeadwaterError, Oversized, Terminal, Unavailable
from headwater.lineage.event import Event
from headwater.lineage.select import NORMAL
from headwater.lineage.topic import Topic

THREADS = 16
IDS_TOLD = 1000


class Desk:
    """What the routes that publish share. `patience_s`: how long one request waits for the broker."""

    def __init__(self, gateway: Gateway, rate: Rate, room: Room | None = None, patience_s: float = PATIENCE_S) -> None:
        self.gateway, self.rate, self.room, self.patience_s = gateway, rate, room or Room(), patience_s
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gateway")

    def visit(self, request: Request) -> "Visit":
        """A request's turn. Raises Limited, Unavailable."""
        address = request.client.host if request.client else "unknown"
        self.rate.admit(address)
        return Visit(self, request, address, self.room.enter())

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)


class Visit:
    """One request at the desk: `async with desk.visit(request) as visit`.

    Its place is free again once the broker is not waited for any more, which may be after the answer.
    """

    def __init__(self, desk: Desk, request: Request, address: str, place: Place) -> None:
        self._desk, self._request, self._address, self._place = desk, request, address, place
        self._pending: Future[list[Accepted]] | None = None
        self._stream = request.stream()

    async def __aenter__(self) -> Self:
        self._desk.rate.take(self._address, 1)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pending is None or self._pending.done():
            self._place.leave()
        else:
            self._pending.add_done_callback(lambda _: self._place.leave())

    async def body(self) -> bytes:
        """The whole body. Raises Oversized, Unavailable."""
        body, whole = await self.beginning()
        if not whole:
            raise Oversized(f"more than {self._desk.gateway.largest} bytes in one request; send several (HEADWATER_HTTP__MAX_BYTES)")
        return body

    async def beginning(self) -> tuple[bytes, bool]:
        """As much of the body as one request may have, and whether that is all. Raises Unavailable."""
        pieces: list[bytes] = []
        size = 0
        async for piece in self._stream:
            self._place.hold(len(piece))
            pieces.append(piece)
            size += len(piece)
            if size > self._desk.gateway.largest:
                return b"".join(pieces), False
        return b"".join(pieces), True

    async def publish(self, topic: Topic[Any], events: list[Event], origin: str = HTTP, priority: str = NORMAL) -> list[Accepted]:
        """Publish in a thread. Raises what the gateway raises, and Unavailable if the broker takes too long."""
        self._desk.rate.take(self._address, max(0, len(events) - 1))
        return await self._wait(self._desk.threads.submit(self._desk.gateway.publish, topic, events, origin, priority), events)

    async def stream(self, topic: Topic[Any], beginning: bytes, key: str | None, priority: str | None) -> dict[str, Any]:
        """Publish a body of lines of any length, piece by piece, each acknowledged before the next is read.

        All of a piece or nothing of it. Gives how many events and lines were accepted, and per partition the last token. An error says the
        same in its details, and which line it met: the sender goes on behind the last accepted line.
        """
        lines = Lines(topic.max_bytes)
        told: dict[str, Any] = {"accepted": 0, "lines": 0, "tokens": []}
        last: dict[int, str] = {}
        waiting: bytes = beginning
        try:
            while True:
                for piece in lines.feed(waiting):
                    await self._piece(topic, piece, key, priority, told, last)
                self._place.let_go()
                waiting = await anext(self._stream, b"")
                if not waiting:
                    break
                self._place.hold(len(waiting))
            if rest := lines.end():
                await self._piece(topic, rest, key, priority, told, last)
        except HeadwaterError as error:
            raise type(error)(
                f"{error}; {told['accepted']} events up to line {told['lines']} are published, go on behind it", **{**error.details, **told}
            ) from None
        return told

    async def _piece(
        self, topic: Topic[Any], piece: list[tuple[int, bytes]], key: str | None, priority: str | None, told: dict[str, Any],
        last: dict[int, str],
    ) -> None:  # fmt: skip
        while (wait := self._desk.rate.wait(self._address)) > 0:
            self._desk.gateway.goes_on()
            await asyncio.sleep(min(wait, 1.0))
        try:
            accepted = await self.publish(topic, self._desk.gateway.lines(topic, piece, key, priority))
        except HeadwaterError as error:
            number = error.details.pop("event", 1 if len(piece) == 1 and isinstance(error, Terminal) else 0)
            if number:
                line = piece[number - 1][0]
                raise type(error)(f"line {line}: {error}", **error.details, line=line) from None
            raise
        last.update({each.position.partition: str(each.position) for each in accepted})
        told.update(accepted=told["accepted"] + len(accepted), lines=piece[-1][0], tokens=[last[partition] for partition in sorted(last)])

    async def _wait(self, pending: "Future[list[Accepted]]", events: list[Event]) -> list[Accepted]:
        self._pending = pending
        answer = asyncio.wrap_future(pending)
        answer.add_done_callback(lambda one: one.cancelled() or one.exception())  # perhaps nobody waits for it any more
        done, _ = await asyncio.wait([answer], timeout=self._desk.patience_s)
        if done:
            return answer.result()
        if pending.cancel():
            raise Unavailable("the broker does not answer, and others wait before this request; nothing of it was taken", retry_after=5)
        raise Unavailable(
            f"the broker has not acknowledged in {self._desk.patience_s:g} s; it may still: "
            "send the same events again under the same ids, and they count once",
            retry_after=5, ids=[event.id for event in events[:IDS_TOLD]],
        )  # fmt: skip
