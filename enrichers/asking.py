"""Asking a service: questions of many threads on one event loop, a bounded number under way, answers kept within bounds."""

import asyncio
import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
import msgspec

from headwater.lineage.errors import EnricherFailed, Retryable, Unavailable

REST_S, LONGEST_REST_S = 1.0, 60.0
"""How long a service that did not answer a whole batch is left in peace, at first and at most."""
AGAIN = frozenset((408, 425, 429))
"""Statuses below 500 that may pass."""


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all services of this process, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="services", daemon=True).start()
    return loop


class Asking:
    """Questions to one service.

    unknown  statuses that are the answer None;  clock  seconds that only grow
    """

    def __init__(
        self, *, headers: Mapping[str, str], timeout_s: float, ttl_s: float, most: int, at_once: int, max_bytes: int,
        unknown: frozenset[int], clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._timeout_s, self._ttl_s, self._most, self._max_bytes, self._unknown = timeout_s, ttl_s, most, max_bytes, unknown
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Any]] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Any]] = {}
        self._room = asyncio.Semaphore(at_once)
        self._rest, self._rests_until = 0.0, 0.0
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        named = {"user-agent": "headwater", "accept": "application/json", **headers}
        self._client = httpx.AsyncClient(headers=named, timeout=timeout_s, limits=limits, follow_redirects=False)

    def ask(self, addresses: Sequence[str]) -> list[Any]:
        """For each address the JSON it answers, or the error: EnricherFailed, Unavailable. From any thread; each address once."""
        return asyncio.run_coroutine_threadsafe(self._ask(addresses), _loop()).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.aclose(), _loop()).result(5)

    # On the loop, and so one at a time.

    async def _ask(self, addresses: Sequence[str]) -> list[Any]:
        found: dict[str, Any] = {}
        missing = []
        for address in addresses:
            kept = self._kept.get(address)
            if kept is not None and self._clock() < kept[0]:
                self._kept.move_to_end(address)
                found[address] = kept[1]
            else:
                missing.append(address)
        if missing and self._clock() < self._rests_until:
            rested = Unavailable("the service did not answer a moment ago, and is not asked again yet", retry_after=self._rest)
            return [found.get(address, rested) for address in addresses]
        answers = await asyncio.gather(*map(self._once, missing), return_exceptions=True)
        self._note(answers)
        return [{**found, **dict(zip(missing, answers, strict=True))}[address] for address in addresses]

    def _note(self, answers: Sequence[Any]) -> None:
        """A service of which none of these questions got an answer rests, longer every time."""
        if not answers:
            return
        silent = all(isinstance(answer, Retryable) for answer in answers)
        self._rest = min(2 * self._rest, LONGEST_REST_S) or REST_S if silent else 0.0
        self._rests_until = self._clock() + self._rest if silent else 0.0

    async def _once(self, address: str) -> Any:
        """One question, though several flows ask it at the same moment."""
        task = self._under_way.get(address)
        if task is None:
            task = self._under_way[address] = asyncio.ensure_future(self._answer(address))
            task.add_done_callback(lambda _: self._under_way.pop(address, None))
        return await task

    async def _answer(self, address: str) -> Any:
        async with self._room:
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._get(address)
            except (TimeoutError, httpx.TransportError) as error:
                why = "no answer in time" if isinstance(error, (TimeoutError, httpx.TimeoutException)) else type(error).__name__
                raise Unavailable(f"the service does not answer: {why}") from error
            except httpx.HTTPError as error:
                raise EnricherFailed(f"the service's answer cannot be read: {type(error).__name__}") from error
        self._kept[address] = self._clock() + self._ttl_s, answer
        self._kept.move_to_end(address)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return answer

    async def _get(self, address: str) -> Any:
        async with self._client.stream("GET", address) as response:
            status = response.status_code
            if status in self._unknown:
                return None
            if status >= 500 or status in AGAIN:
                raise Unavailable(f"the service answers {status}")
            if not 200 <= status < 300:
                raise EnricherFailed(f"the service answers {status}" + ("; redirects are not followed" if status < 400 else ""))
            return self._decoded(await self._body(response))

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > self._max_bytes:
                raise EnricherFailed(f"the service answers with more than {self._max_bytes} bytes")
        return bytes(body)

    @staticmethod
    def _decoded(body: bytes) -> Any:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EnricherFailed(f"the service's answer is not JSON: {error}") from None
