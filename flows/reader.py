"""One Kafka client shared by the slots of one worker: it takes what has come, sorted by partition, and each slot hands on its own."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from headwater.flows.faults import CUT_OFF, Fault, fault_of
from headwater.flows.gaps import SETTLE_S, Doubt, doubtful
from headwater.flows.kafka import Kafka
from headwater.flows.pace import Pace
from headwater.flows.partitions import Place
from headwater.lineage.errors import Unavailable

_log = structlog.get_logger("headwater.source")

TRUST_S = 1.0
"""How long "this is the end" is believed after it was asked for: a broker that has fallen silent since may have more to tell."""
ASK_S = 0.4
"""How often a source that stands at an end asks again. It costs a fetch that brings nothing."""
LARGEST_POLL = 5000
"""Messages that one poll takes for all slots together, unless one slot alone takes more."""
QUIET_S = 60.0
"""How long a passing fault is not told again."""
MEND_S = 1.0
"""Seconds between two attempts to find the oldest offset of a partition whose offset is lost."""


class Slot(Protocol):
    """What a reader knows of those it reads for."""

    places: dict[Place, "Reading"]


@dataclass(slots=True)
class Reading:
    """One partition as it is being read.

    next     the offset after what was handed on
    waiting  what was read and not yet handed on, in offset order;  many  how many messages that is
    ended    the offset of the end it stands at, None where it does not
    asked    when its end was last asked for, proved: when the end that was told last was asked for; open: no answer yet
    left     the offset after the last that was left out as unreadable
    lost     when its oldest offset is to be asked for, once its own is not there any more
    reached  the offset after what was taken from the client;  sure: gaps before it were looked at twice
    doubt    the gap after `reached` that is to be looked at again
    """

    next: int
    waiting: deque[list[KafkaMessage]] = field(default_factory=deque)
    many: int = 0
    ended: int | None = None
    asked: float = 0.0
    proved: float | None = None
    open: bool = False
    left: int = 0
    lost: float | None = None
    reached: int = field(init=False)
    sure: int = 0
    doubt: Doubt | None = None

    def __post_init__(self) -> None:
        self.reached = self.next


class Reader:
    """The client of one worker. Only that worker's thread calls it.

    lead      the slot that polls, at its own pace, for all: one that owns partitions, as soon as any does
    batch     messages that one slot takes at once
    idle      polls in a row that found nothing
    full      whether the last poll took all that it may, so that more is likely to have come
    coalesce  fewer and larger polls: less than a full one counts as nothing found
    gate      (topic, partition) → may more be read now? What may not is paused
    at_end    called with (topic, partition, next offset, seconds since the broker was asked) while a partition stands at its end
    fault     called with a topic and what stands in the way of reading it
    """

    def __init__(
        self,
        kafka: Kafka,
        group: str,
        *,
        batch: int,
        coalesce: bool = False,
        gate: Callable[[str, int], bool] | None = None,
        at_end: Callable[[str, int, int, float], None] | None = None,
        fault: Callable[[str, str], None] | None = None,
        pace: Pace | None = None,
        doubts: bool = False,
    ) -> None:
        self._kafka, self._group = kafka, group
        self._batch, self._coalesce, self._doubts = batch, coalesce, doubts
        self._gate, self._at_end, self._fault = gate, at_end, fault
        self.pace = pace
        self.slots: list[Slot] = []
        self.lead: Slot | None = None
        self.busy = self.full = False
        self.idle = 0
        self.readings: dict[Place, Reading] = {}
        self._consumer: Consumer | None = None
        self._new: list[Place] = []
        self._shut: set[Place] = set()
        self._paused: set[Place] = set()
        self._commits: dict[Place, int] = {}
        self._logged: dict[tuple[int, str], float] = {}
        self._owners = 0

    @property
    def consumer(self) -> Consumer:
        if self._consumer is None:
            # Told outright: a broker that does not answer yet cannot say of which kind it is.
            told = {"isolation_level": "read_uncommitted"} if self._doubts else {}
            self._consumer = self._kafka.consumer(self._group, **told)
        return self._consumer

    def add(self, slot: Slot, starts: Mapping[Place, int]) -> None:
        """Read these partitions for a slot too, each from its offset."""
        for place, offset in starts.items():
            slot.places[place] = self.readings[place] = Reading(offset)
        self._new += starts
        self._count()

    def _count(self) -> None:
        owners = [slot for slot in self.slots if slot.places]
        self._owners, self.lead = len(owners), next(iter(owners or self.slots), None)

    def join(self, slot: Slot) -> None:
        """Read for a slot, which owns nothing yet."""
        self.slots.append(slot)
        self._count()

    def leave(self, slot: Slot) -> bool:
        """A slot that closes takes its partitions along. True: it was the last, and the client is closed."""
        self.slots.remove(slot)
        self._count()
        for place in slot.places:
            self.readings.pop(place, None)
        if self.slots:
            if self._consumer is not None and slot.places:
                self._consumer.incremental_unassign([TopicPartition(*place) for place in slot.places if place not in self._new])
            self._new = [place for place in self._new if place not in slot.places]
            self._paused -= slot.places.keys()
            self._shut -= slot.places.keys()
            return False
        if self.pace is not None:
            self.pace.leave()
        if self._consumer is not None:
            self._commit()
            self._consumer.close()
        return True

    def note_handed_on(self, offsets: Mapping[Place, int]) -> None:
        """What a snapshot says; committed to the group by and by, for lag tools."""
        self._commits |= offsets

    def poll(self) -> None:
        """Take what has come. Never waits: what is not there yet is there at the next poll."""
        if not self.readings:
            self.busy = self.full = False
            return
        self._assign()
        self._commit()
        self._mend()
        self._apply_gate()
        if self._doubts:
            self._look_again()
        if sum(reading.many for place, reading in self.readings.items() if place not in self._shut) >= self._batch:
            self.busy = self.full = True  # the slots hand on first: what waits here is bounded by two polls
            return
        standing = [place for place, reading in self.readings.items() if reading.ended is not None and place not in self._paused]
        most = min(self._batch * self._owners, max(self._batch, LARGEST_POLL))
        found = self.consumer.consume(most, 0)
        by_place, ends = self._sorted(found)
        self.idle = 0 if by_place else self.idle + 1
        self.busy = bool(by_place) and not (self._coalesce and len(found) < self._batch)
        self.full = len(found) >= most
        for place, messages in by_place.items():
            self._take(place, messages)
        for end in ends:
            self._end(end)
        if self._at_end is not None and len(found) < most:  # else more may lie behind what was taken
            self._tell_ends(self._at_end, [place for place in standing if place not in by_place])

    def _sorted(self, found: Sequence[KafkaMessage]) -> tuple[dict[Place, list[KafkaMessage]], list[KafkaMessage]]:
        """Messages by partition, and what tells of ends."""
        by_place: dict[Place, list[KafkaMessage]] = {}
        ends: list[KafkaMessage] = []
        for message in found:
            error = message.error()
            if error is None:
                by_place.setdefault((message.topic(), message.partition()), []).append(message)
            elif fault_of(error) == "end":
                ends.append(message)
            else:
                self._note(message, error)
        return by_place, ends

    def _take(self, place: Place, messages: list[KafkaMessage]) -> None:
        reading = self.readings.get(place)
        if reading is None or reading.doubt is not None:  # its slot has closed; or what comes now comes again
            return
        reading.ended = reading.proved = None  # an end told in the same poll is noted after this
        if self._doubts and (after := doubtful(messages, reading.reached, reading.sure)) is not None:
            reading.doubt = _doubt(messages[-1].offset() + 1)
            messages = messages[:after]
            if not messages:
                return
        reading.waiting.append(messages)
        reading.many += len(messages)
        reading.reached = messages[-1].offset() + 1

    def _end(self, told: KafkaMessage) -> None:
        """Note an end, unless more was read since it was told. Offsets before it that were not given may be no more than late."""
        reading, offset = self.readings.get((told.topic(), told.partition())), told.offset()
        if reading is None or reading.doubt is not None or offset < reading.reached:
            return
        if self._doubts and offset > max(reading.reached, reading.sure):
            reading.doubt = _doubt(offset)
            return
        reading.ended, reading.proved, reading.open = offset, reading.asked, False

    def _assign(self) -> None:
        if not self._new:
            return
        now = time.monotonic()
        for place in self._new:
            self.readings[place].asked = now
        fresh = [TopicPartition(*place, self.readings[place].next) for place in self._new]
        if len(self._new) == len(self.readings):
            self.consumer.assign(fresh)
        else:
            self.consumer.incremental_assign(fresh)
        self._new = []

    def _look_again(self) -> None:
        """Go back to a gap whose time has come. What is paused is not read; it goes back once it is."""
        now = time.monotonic()
        for place, reading in self.readings.items():
            doubt = reading.doubt
            if doubt is None or now < doubt.due or place in self._paused or not self._seek(place, reading.reached):
                continue
            reading.sure, reading.doubt = doubt.until, None
            reading.asked, reading.open = now, True

    def _tell_ends(self, at_end: Callable[[str, int, int, float], None], places: Sequence[Place]) -> None:
        """Tell of the partitions that stand at their ends, and have the broker say again that they do.

        The client tells an end once, and nothing when its broker stops answering; and after this process stood still, what it told
        may be old. So an end counts from the moment it was asked for, and not for long: a seek to where we are asks for it.
        It is told at our own next offset: between that and the broker's end lie transaction markers and what compaction took.
        """
        now = time.monotonic()
        for place in places:
            reading = self.readings[place]
            if reading.waiting:
                continue
            if reading.proved is not None and now - reading.proved < TRUST_S:
                at_end(*place, reading.next, now - reading.proved)
            if not reading.open and now - reading.asked >= ASK_S:
                reading.asked = now
                reading.open = True  # asked again only once answered: the client keeps trying, and a seek drops what is on its way
                if not self._seek(place, reading.next):
                    reading.open = False

    def _seek(self, place: Place, offset: int) -> bool:
        try:
            self.consumer.seek(TopicPartition(*place, offset))
        except KafkaException as error:
            _log.debug("no seek", topic=place[0], partition=place[1], error=str(error))
            return False
        return True

    def _note(self, message: KafkaMessage, error: KafkaError) -> None:
        """Ends are noted, passing faults left to the client; what it cannot mend ends the flow by name. Raises Unavailable."""
        fault: Fault = fault_of(error)
        place = (message.topic() or "", message.partition() if message.partition() is not None else -1)
        reading = self.readings.get(place)
        if fault == "fail":
            raise Unavailable(f"{self._group}: {_where(place)}{self._kafka.told(error)}")
        if fault == "retry" or reading is None:
            if error.code() in CUT_OFF:
                for each in self.readings.values():
                    each.proved, each.open = None, False
            self._log_once(place, error)
        elif fault == "lost":
            reading.lost = 0.0
        elif fault == "gone":
            self._tell_fault(place, f"partition {place[1]} of topic {place[0]} is not there: {self._kafka.told(error)}")
        else:
            self._skip(place, reading, message.offset(), error)

    def _skip(self, place: Place, reading: Reading, offset: int | None, error: KafkaError) -> None:
        """No client can read what lies there. It shows as a jump in offsets, and so as `absent`; the client stays there unless moved."""
        read = (messages[-1].offset() + 1 for messages in reading.waiting)
        at = max(offset if offset is not None else -1, reading.next, reading.left, *read)
        reading.left = reading.reached = at + 1
        reading.doubt = None
        _log.error("unreadable, left out", topic=place[0], partition=place[1], offset=at, error=self._kafka.told(error))
        self._seek(place, reading.left)

    def _mend(self) -> None:
        """Go on behind what retention overtook: it shows as a jump in offsets, and so as `absent`. A topic made anew is left alone."""
        now = time.monotonic()
        for place, reading in self.readings.items():
            if reading.lost is None or now < reading.lost:
                continue
            reading.lost = now + MEND_S
            try:
                low, high = self.consumer.get_watermark_offsets(TopicPartition(*place), timeout=MEND_S)
            except KafkaException as error:
                _log.debug("oldest offset not known", topic=place[0], partition=place[1], error=str(error))
                continue
            if high < reading.next:
                reading.lost = None
                self._tell_fault(place, f"topic {place[0]} was made anew: partition {place[1]} ends at {high}, {reading.next} was read")
            elif self._seek(place, max(low, reading.next)):
                reading.lost, reading.reached = None, max(low, reading.next)
                _log.warning("retention overtook the flow", topic=place[0], partition=place[1], wanted=reading.next, oldest=low)

    def _tell_fault(self, place: Place, told: str) -> None:
        if self._fault is not None:
            self._fault(place[0], told)
        else:
            _log.error("cannot be read on", topic=place[0], why=told)

    def _log_once(self, place: Place, error: KafkaError) -> None:
        """A fault that lasts is told once in a while, not at every poll."""
        now, what = time.monotonic(), (error.code(), place[0])
        if now - self._logged.get(what, -QUIET_S) >= QUIET_S:
            self._logged[what] = now
            _log.warning("broker", group=self._group, error=self._kafka.told(error))

    def _apply_gate(self) -> None:
        """Pause what is shut and has a batch waiting. Until then it is read on, for the client drops what it has of a paused partition, and
        to fetch that again each time a gate opens for a moment costs more than all else."""
        gate = self._gate
        if gate is None:
            return
        self._shut = {place for place in self.readings if not gate(*place)}
        closed = {place for place in self._shut if self.readings[place].many >= self._batch}
        if pause := closed - self._paused:
            self.consumer.pause([TopicPartition(*place) for place in pause])
        if resume := self._paused - closed:
            self.consumer.resume([TopicPartition(*place) for place in resume])
        self._paused = closed
        for place in closed:
            self.readings[place].open = False  # what a paused partition was asked is dropped with what it had fetched

    def _commit(self) -> None:
        if not self._commits:
            return
        offsets, self._commits = self._commits, {}
        try:
            self.consumer.commit(offsets=[TopicPartition(*place, offset) for place, offset in offsets.items()], asynchronous=True)
        except KafkaException as error:  # the group's offsets are for lag tools; the snapshot is what counts
            _log.debug("offsets not committed", group=self._group, error=str(error))


def _doubt(until: int) -> Doubt:
    return Doubt(until, time.monotonic() + SETTLE_S)


def _where(place: Place) -> str:
    return f"{place[0]}/{place[1]}: " if place[0] else ""
