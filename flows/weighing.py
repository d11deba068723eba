"""Texts on their way to the rules: a thread of its own embeds them, so that a slow model holds only rules that ask for meaning (law 6)."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from headwater.agents.detect import Detector
from headwater.agents.meaning import Meaning
from headwater.agents.signals import Batch as Signals
from headwater.agents.state import Held

_log = structlog.get_logger("headwater.detect")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0

LINE_MAX = 5_000
"""Signals that wait for texts to be weighed; beyond it the source of their topics pauses."""


@dataclass(slots=True)
class Weighed:
    """Signals of one source batch in the line; `near` once their texts have been weighed. What has none is ready."""

    signals: Signals
    partition: int
    next: int
    near: list[float | None] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, held: Held) -> "Weighed":
        """What a snapshot says."""
        return cls(Signals(held.broker, held.topic, held.signals, [], held.texts), held.partition, held.next)

    @property
    def held(self) -> Held:
        """For a snapshot."""
        signals = self.signals
        return Held(signals.broker, signals.topic, signals.signals, signals.texts, self.partition, self.next)


class Weigher:
    """Embeds in a thread, in the order in which it is given. An embedder that does not answer is asked again until `stop`."""

    def __init__(self, meaning: Callable[[], Meaning], stop: threading.Event) -> None:
        self._make, self._stop = meaning, stop
        self._given: queue.SimpleQueue[tuple[Detector, Weighed] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="weighing", daemon=True)
        self._thread.start()

    def weigh(self, detector: Detector, one: Weighed) -> None:
        """See to it that `one.near` is known, and then `one.ready`."""
        self._given.put((detector, one))

    def close(self) -> None:
        self._stop.set()
        self._given.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        meaning = None
        while (given := self._given.get()) is not None:
            detector, one = given
            pause = FIRST_PAUSE_S
            while not one.ready.is_set():
                try:
                    meaning = meaning or self._make()
                    one.near = detector.near(one.signals, meaning)
                    one.ready.set()
                except Exception as error:  # whatever it is, the thread must outlive it; the line waits and says so
                    _log.warning("texts cannot be weighed; trying again", rules=detector.name, error=str(error), seconds=pause)
                    if self._stop.wait(pause):
                        return
                    pause = min(2 * pause, LONGEST_PAUSE_S)


class Line:
    """What waits for its texts to be weighed, in the order it came; what comes behind it waits too, so that order holds."""

    def __init__(self) -> None:
        self._waiting: deque[Weighed] = deque()
        self._many = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        return self._many > LINE_MAX

    def add(self, one: Weighed, detector: Detector, weigher: Callable[[], Weigher]) -> None:
        self._waiting.append(one)
        self._many += len(one.signals.signals)
        if one.signals.texts:
            weigher().weigh(detector, one)
        else:
            one.ready.set()

    def ready(self) -> Iterable[Weighed]:
        """Take out what need not wait any more, in order."""
        while self._waiting and self._waiting[0].ready.is_set():
            one = self._waiting.popleft()
            self._many -= len(one.signals.signals)
            yield one

    @property
    def held(self) -> list[Held]:
        return [one.held for one in self._waiting]
