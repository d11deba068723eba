"""The declared gateways of an application at work: each that fetches by itself has a thread, and none holds another up."""

import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from headwater.flows.drop import Drop
from headwater.flows.dropping import Dropping
from headwater.flows.firing import Firing
from headwater.flows.gateway import Gateway
from headwater.flows.parcel import Sender
from headwater.flows.poll import Poll
from headwater.flows.polling import Polling
from headwater.flows.schedule import Schedule
from headwater.flows.webhook import Webhook

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.gateways")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LEAVE_S = 3.0
"""How long a stop waits for what is on its way to the broker."""


class Part(Protocol):
    """A gateway that fetches by itself."""

    origin: str

    def turn(self) -> float:
        """Do what is due; gives the seconds until the next turn."""
        ...

    def status(self) -> dict[str, Any]: ...


class Gateways:
    """`webhooks`: name → declaration and secret. Raises Misused if a secret is missing."""

    def __init__(self, run: "Runtime", gateway: Gateway, chance: Callable[[], float] = random.random) -> None:
        self._stop = threading.Event()
        self._trouble: dict[str, str] = {}
        given = run.app.gateways
        self.webhooks = {one.name: (one, one.key()) for one in given if isinstance(one, Webhook)}
        home = run.home / "gateways"
        self._parts: list[Part] = []
        for one in given:
            if isinstance(one, Schedule):
                refresh = partial(gateway.remember, run.kafka, run.broker, one.into)
                self._parts.append(Firing(one, gateway, _memory(home, one.origin), run.clock, refresh))
            elif isinstance(one, Drop):
                folder = home / one.origin.replace("/", "-")
                self._parts.append(
                    Dropping(one, run.app.root, folder, _sender(run, gateway, one), run.kafka, run.broker, run.clock, self._stop)
                )
            elif isinstance(one, Poll):
                memory = _memory(home, one.origin)
                self._parts.append(Polling(one, memory, _sender(run, gateway, one), run.clock, chance, one.keys()))
        self._threads = [threading.Thread(target=self._run, args=[part], name=part.origin, daemon=True) for part in self._parts]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def status(self) -> Sequence[dict[str, Any]]:
        """How each fares."""
        return [{**part.status(), "error": self._trouble.get(part.origin, "")} for part in self._parts]

    def close(self) -> None:
        """Ask all to end, and wait a moment for what they have under way."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(LEAVE_S)

    def _run(self, part: Part) -> None:
        """Turns, until the stop. What goes wrong is told and tried again: a gateway that fails must not end the others."""
        pause, again = 0.0, FIRST_PAUSE_S
        while not self._stop.wait(pause):
            try:
                pause, again = part.turn(), FIRST_PAUSE_S
                self._trouble.pop(part.origin, None)
            except Exception as error:
                pause, again = again, min(2 * again, LONGEST_PAUSE_S)
                self._trouble[part.origin] = f"{type(error).__name__}: {error}"
                _log.warning("gateway in trouble; trying again", gateway=part.origin, error=repr(error), seconds=pause)


def _memory(home: Path, origin: str) -> Path:
    return home / f"{origin.replace('/', '-')}.json"


def _sender(run: "Runtime", gateway: Gateway, one: Drop | Poll) -> Sender:
    return Sender(gateway, run.writer, run.clock, one.into, one.origin, one.priority, one.model, one.as_, one.time)
