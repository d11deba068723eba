"""Which partitions there are, who owns them, and what happens when the broker has others than before.

Partitions of topics without a key are adopted while flows run, and so are topics that appear. A keyed topic that grew scatters its
keys over other partitions than before, so order and documents would break: its growth is reported, and its new partitions are not read.
"""

import re
import threading
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaException

from headwater.flows.drain import oldest
from headwater.flows.kafka import Kafka
from headwater.lineage.errors import Misused
from headwater.lineage.topic import INTERNAL

_log = structlog.get_logger("headwater.partitions")

Place = tuple[str, int]
EVERY_S = 5.0
"""How often the broker is asked which topics and partitions there are."""
PATTERN = "^"
"""A name that begins so is a regular expression over topic names, as librdkafka's subscriptions write it."""
_ANSWER_S = 5.0
SILENT = 2
"""After so many looks without an answer it is told."""


def owner_of(place: Place, slots: int) -> int:
    """The slot that owns a partition: by hash of the topic, so that it hangs on nothing but the number of slots.

    The engine deals slots out in turn. So neighbouring partitions lie in neighbouring slots, and workers get equal shares of a topic.
    """
    topic, partition = place
    return (zlib.crc32(topic.encode()) + partition) % slots


def name_of(place: Place) -> str:
    return f"{place[0]}/{place[1]}"


class Change(NamedTuple):
    """What a look at the broker says: topics and how many of their partitions are read; and topic → what stands in the way there."""

    counts: dict[str, int]
    told: dict[str, str]


def compare(declared: Mapping[str, int], keyed: Collection[str], known: Mapping[str, int], there: Mapping[str, int]) -> Change:
    """What is to be read, by what was declared, what is known so far and what is there (topic → partitions). Nothing known is forgotten.

    declared  topic → partitions, or a pattern → anything. Of a keyed topic never more are read than declared
    """
    counts, told = dict(known), {}
    for name in _matching(declared, there):
        here, before = there.get(name, 0), known.get(name, 0)
        most = declared[name] if name in keyed else here
        if here > most:
            told[name] = (
                f"topic {name} grew from {most} to {here} partitions; its keys now lie elsewhere, so the new ones are not read: "
                f"stop its producers and run `headwater topics migrate {name}`"
            )
        elif here < before:
            told[name] = f"topic {name} had {before} partitions and has {here}: what is gone cannot be read; the others go on"
        counts[name] = max(before, min(here, most))
    return Change(counts, told)


def _matching(declared: Mapping[str, int], there: Mapping[str, int]) -> list[str]:
    """The names declared, and those that match a pattern; internal topics are matched by no pattern."""
    patterns = [re.compile(name) for name in declared if name.startswith(PATTERN)]
    plain = [name for name in declared if not name.startswith(PATTERN)]
    open_to_patterns = [name for name in there if not name.startswith((INTERNAL, "__")) and name not in declared]
    return plain + sorted(name for name in open_to_patterns if any(pattern.match(name) for pattern in patterns))


class Partitions:
    """The partitions of some topics at the broker, looked up again every few seconds in a thread of its own.

    declared  topic → partitions; a name that begins with `^` is a pattern, its number says nothing
    keyed     topics that do not grow while they are read
    every_s   seconds between two looks

    answered  whether the broker has answered lately: one that starts anew may be silent for a look

    The first look is made on construction. Raises Unavailable if no broker answers then, Misused for a pattern that is none.
    Every method may be called from any thread.
    """

    def __init__(self, kafka: Kafka, declared: Mapping[str, int], keyed: Collection[str] = (), every_s: float = EVERY_S) -> None:
        for name in declared:
            _check(name)
        self._kafka, self._declared, self._keyed, self._every_s = kafka, dict(declared), frozenset(keyed), every_s
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._starts: dict[Place, int] = {}
        self._told: dict[str, str] = {}
        self._faults: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.revision = 0
        self.answered = True
        self._learn(compare(self._declared, self._keyed, {}, kafka.topics()), {})

    def start(self) -> "Partitions":
        """Begin to look again and again."""
        self._thread = threading.Thread(target=self._run, name="partitions", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2 * _ANSWER_S)

    def count(self, topic: str) -> int:
        """How many partitions of a topic are read; 0: there is none yet."""
        with self._lock:
            return self._counts.get(topic, 0)

    def counts(self) -> dict[str, int]:
        """Topic → partitions that are read."""
        with self._lock:
            return dict(self._counts)

    def places(self, names: Iterable[str]) -> list[Place]:
        """The partitions of these topics and patterns that are to be read."""
        with self._lock:
            wanted = _matching(dict.fromkeys(names, 0), self._counts)
            return [(name, partition) for name in wanted for partition in range(self._counts.get(name, 0))]

    def start_of(self, place: Place) -> int | None:
        """The oldest offset of a partition that appeared while we were looking; None: it was there before."""
        with self._lock:
            return self._starts.get(place)

    def fault(self, topic: str, told: str) -> None:
        """A reader's word on what stands in the way of reading a topic."""
        with self._lock:
            new = self._faults.get(topic) != told
            self._faults[topic] = told
        if new:
            _log.error("cannot be read on", topic=topic, why=told)

    def told(self) -> dict[str, str]:
        """Topic → what stands in the way of reading it, or parts of it."""
        with self._lock:
            return {**self._told, **self._faults}

    def look(self) -> None:
        """Ask the broker now. Raises Unavailable."""
        change = compare(self._declared, self._keyed, self._counts, self._kafka.topics(_ANSWER_S))
        new = [(name, p) for name, count in change.counts.items() for p in range(self._counts.get(name, 0), count)]
        self._learn(change, self._oldest(new))

    def _run(self) -> None:
        silent = 0
        while not self._stop.wait(self._every_s):
            try:
                self.look()
            except Exception as error:  # whatever it is, the thread must outlive it
                silent += 1
                self.answered = silent < SILENT
                if silent == SILENT:  # once: a reader's client finds out after a minute only, and a broker that starts anew is soon back
                    _log.warning("the broker does not answer; what comes waits, and goes on by itself", error=str(error))
            else:
                if silent >= SILENT:
                    _log.warning("the broker answers again")
                silent, self.answered = 0, True

    def _oldest(self, places: list[Place]) -> dict[Place, int]:
        if not places:
            return {}
        consumer = self._kafka.consumer("headwater-partitions")
        try:
            return oldest(self._kafka, consumer, places, _ANSWER_S)
        except KafkaException as error:
            _log.debug("new partitions do not answer yet", error=str(error))
            raise
        finally:
            consumer.close()

    def _learn(self, change: Change, starts: Mapping[Place, int]) -> None:
        with self._lock:
            grown = {name: count for name, count in change.counts.items() if count > self._counts.get(name, 0)}
            news = {name: told for name, told in change.told.items() if self._told.get(name) != told}
            self._counts, self._told = change.counts, change.told
            self._starts |= starts
            self.revision += bool(grown)
        for name, told in news.items():
            _log.warning("partitions changed", topic=name, what=told)
        if starts:
            _log.info("partitions adopted", partitions=sorted(name_of(place) for place in starts))


def _check(name: str) -> None:
    if not name.startswith(PATTERN):
        return
    try:
        re.compile(name)
    except re.error as error:
        raise Misused(f"topic pattern {name!r} is no regular expression: {error}") from None


def declared_of(topics: Mapping[str, Any], partitions: Mapping[str, int]) -> tuple[dict[str, int], frozenset[str]]:
    """What to watch for an application: its topics with their partitions, and which of them are keyed. Internal ones never grow."""
    return dict(partitions), frozenset(name for name in partitions if name not in topics or topics[name].key is not None)
