"""What a door lets in: so much per second from one address, and only so much waiting for the broker at once."""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable

from headwater.lineage.errors import Limited, Unavailable

ADDRESSES = 10_000
"""Addresses remembered at once: one that has been silent for longest starts with a full bucket again."""

WAITING = 256
"""Requests that may wait for the broker at once; beyond it a request is refused at once, instead of waiting in memory."""
WAITING_BYTES = 128_000_000
"""Bytes of their bodies, all together."""
PATIENCE_S = 30.0
"""How long one request waits for the broker's acknowledgement before it is told to come again."""


class Rate:
    """A token bucket per address: `per_second` events on average, `burst` at once. `clock` gives µs. Thread-safe. 0: no limit.

    Who sends many events in one request may overdraw, once, and then waits until it is paid for: so no request is too large to ever pass.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], int], addresses: int = ADDRESSES) -> None:
        self._per_second, self._burst, self._clock, self._addresses = per_second, burst, clock, addresses
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def admit(self, address: str) -> None:
        """Let a request in that has yet to say how many events it brings. Raises Limited, with `retry_after` in seconds."""
        if (wait := self.wait(address)) > 0:
            told = f"{address} sends more than {self._per_second:g} events a second; wait {wait:.1f} s (HEADWATER_HTTP__RATE)"
            raise Limited(told, retry_after=wait)

    def take(self, address: str, events: int) -> None:
        """Take what a request brought out of its address's bucket."""
        if self._per_second <= 0:
            return
        with self._lock:
            left, now = self._left(address)
            self._buckets[_whose(address)] = (left - events, now)
            while len(self._buckets) > self._addresses:
                self._buckets.popitem(last=False)

    def wait(self, address: str) -> float:
        """Seconds until this address may send again; 0: now."""
        if self._per_second <= 0:
            return 0.0
        with self._lock:
            left, _ = self._left(address)
            return 0.0 if left >= 1 else (1 - left) / self._per_second

    def _left(self, address: str) -> tuple[float, int]:
        now = self._clock()
        left, at = self._buckets.pop(_whose(address), (float(self._burst), now))
        left = min(float(self._burst), left + max(0, now - at) / 1e6 * self._per_second)
        self._buckets[_whose(address)] = (left, max(now, at))  # as the newest: the longest silent goes first
        return left, max(now, at)


class Room:
    """How much may wait at once, requests and bytes. Used from one event loop and from the threads that serve it."""

    def __init__(self, requests: int = WAITING, size: int = WAITING_BYTES) -> None:
        self._requests, self._size = requests, size
        self._lock = threading.Lock()
        self._many = self._held = 0

    def enter(self) -> "Place":
        """A place for one request. Raises Unavailable if there is none."""
        with self._lock:
            if self._many >= self._requests:
                raise _full(f"{self._many} requests wait for the broker")
            self._many += 1
        return Place(self)

    def grow(self, size: int) -> None:
        with self._lock:
            if self._held + size > self._size:
                raise _full(f"{self._held} bytes wait for the broker")
            self._held += size

    def leave(self, size: int) -> None:
        with self._lock:
            self._many -= 1
            self._held -= size

    def shrink(self, size: int) -> None:
        with self._lock:
            self._held -= size

    @property
    def waiting(self) -> int:
        with self._lock:
            return self._many


class Place:
    """One request's place in the room, given back once."""

    def __init__(self, room: Room) -> None:
        self._room: Room | None = room
        self._size = 0

    def hold(self, size: int) -> None:
        """So many bytes more. Raises Unavailable if there is no room for them."""
        assert self._room is not None
        self._room.grow(size)
        self._size += size

    def let_go(self) -> None:
        """Its bytes are dealt with; the request goes on."""
        if self._room is not None:
            self._room.shrink(self._size)
            self._size = 0

    def leave(self) -> None:
        if self._room is not None:
            self._room.leave(self._size)
            self._room = None


def _full(why: str) -> Unavailable:
    return Unavailable(f"{why}, and no more may; nothing of this request was taken: send it again", retry_after=2)


def _whose(address: str) -> str:
    """Who an address belongs to: of IPv6 a whole /64 is one customer's."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
