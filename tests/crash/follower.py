"""The test's own eyes and hands at the broker: it reads decisions and reviews as they come, answers questions, and doubles activations."""

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import KafkaError, TopicPartition
from crash.acts import ACTIVATED, AGENTS, DECIDED, verdicts

from headwater.agents.course import Course, End, following
from headwater.agents.journal import decode_page
from headwater.agents.review import REQUESTED
from headwater.flows.kafka import Kafka
from headwater.flows.sink import Outgoing, Writer
from headwater.lineage.message import decode_batch
from headwater.lineage.record import Record
from headwater.lineage.topic import ACTIVATIONS, DECISIONS, LINEAGE, REVIEWS

DOUBLED = 0.2
"""The share of activations that come a second time."""
QUIET_S = 4.0
"""Once nothing new has come for so long all is read again: what two producers write at one moment the broker may show out of order."""
AT_ONCE = 0.4
"""How likely a question is answered when it is looked at."""


class Follower:
    """Reads what lies in the journal and on the topics beside it. Each question is answered once, by two people.

    chance  decides what is doubled, and when a question is answered;  clock  gives the µs that verdicts carry
    """

    def __init__(self, kafka: Kafka, writer: Writer, chance: random.Random, clock: Callable[[], int]) -> None:
        self._writer, self._chance, self._clock = writer, chance, clock
        self._consumer = kafka.consumer("test-follower", isolation_level="read_uncommitted")
        self._next = dict.fromkeys((ACTIVATIONS, DECISIONS, REVIEWS, LINEAGE), 0)
        self._seen: dict[str, int] = {}
        self._again_at = time.monotonic() + QUIET_S
        self._errors: list[str] = []
        self._assign()
        self.courses: dict[str, Course] = {}
        self._places: set[int] = set()
        self._closed: dict[str, set[tuple[str, int, int]]] = defaultdict(set)
        self._doubled: set[str] = set()
        self._asked: dict[str, dict[str, Any]] = {}
        self._answered: set[str] = set()

    @property
    def activations(self) -> int:
        """How many lie on their topic, doubled ones counted."""
        return len(self._places)

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(topic, 0, offset) for topic, offset in self._next.items()])

    def look(self) -> None:
        """Take in what has come since, and do what it asks for."""
        now = time.monotonic()
        if now > self._again_at:
            self._again_at = now + QUIET_S
            self._next = dict.fromkeys(self._next, 0)
            self._assign()
        for message in self._consumer.consume(1000, 0.0):
            error = message.error()
            if error is None:
                self._take(message)
                if message.offset() >= self._seen.get(message.topic(), 0):
                    self._again_at = now + QUIET_S
                    self._seen[message.topic()] = message.offset() + 1
                self._next[message.topic()] = message.offset() + 1
            elif error.code() != KafkaError._PARTITION_EOF:  # some errors end the reading of a partition: begin again where it was
                self._errors.append(f"{message.topic()}: {error}")
                self._assign()
                break
        for review, question in list(self._asked.items()):
            if self._chance.random() < AT_ONCE:
                del self._asked[review]
                self._answered.add(review)
                self._writer.write(verdicts(question, self._clock()))

    def _take(self, message: Any) -> None:
        headers = dict(message.headers() or ())
        if message.topic() == LINEAGE:
            self._close(decode_batch(message.value()))
        elif message.topic() == ACTIVATIONS:
            self._places.add(message.offset())
            self._double(message, headers["ce_id"].decode())
        elif message.topic() == REVIEWS:
            if headers["ce_type"].decode() == REQUESTED and headers["ce_id"].decode() not in self._answered:
                self._asked[headers["ce_id"].decode()] = json.loads(message.value())
        elif "agent" in headers:
            for entry in decode_page(message.value()):
                self.courses.setdefault(entry.id, Course()).apply(entry)

    def _double(self, message: Any, id: str) -> None:
        if id not in self._doubled and self._chance.random() < DOUBLED:
            self._writer.write([Outgoing(ACTIVATIONS, message.key(), message.value(), message.headers(), 0)])
        self._doubled.add(id)

    def _close(self, records: Iterable[Record]) -> None:
        for each in records:
            if each.kind == "outcome" and each.outcome != "waiting":
                self._closed[each.flow].update((each.topic, each.partition, offset) for offset in range(each.first, each.next))

    def closed(self, read: int) -> bool:
        """Every position has its outcome in the lineage topic: of the events that rules read (so many), and of the activations."""
        flows = {"detect": read, **dict.fromkeys((f"decide/{name}" for name in AGENTS), self.activations)}
        return all(len(self._closed[flow]) == many for flow, many in flows.items())

    def decided(self, agent: str) -> int:
        return sum(course.decided is not None and course.decided.agent == agent for course in self.courses.values())

    @property
    def suspended(self) -> bool:
        """Every suspension is written: what is waited for may come."""
        return self.decided("waiter") >= DECIDED["waiter"] // 2

    @property
    def ended(self) -> bool:
        """Every decision is made, and has come to its end."""
        if len(self._doubled) < ACTIVATED or self._asked or any(self.decided(agent) < DECIDED[agent] for agent in AGENTS):
            return False
        return all(course.decided is not None and isinstance(following(course), End) for course in self.courses.values())

    @property
    def standing(self) -> str:
        """How far everything is, for who waits in vain."""
        decided = {agent: f"{self.decided(agent)} of {DECIDED[agent]}" for agent in AGENTS}
        steps = {id: following(course) if course.decided else course for id, course in self.courses.items()}
        closed = {flow: len(places) for flow, places in self._closed.items()}
        left = [f"{id}: {step}"[:300] for id, step in steps.items() if not isinstance(step, End)]
        known = f"{len(self._doubled)} of {ACTIVATED} activations, decided {decided}, asked {list(self._asked)}"
        return f"{known}, not ended {left[:5]}, closed {closed}, {self._errors[-5:]}, at {self._next}"

    def close(self) -> None:
        self._consumer.close()
