"""Event-time order: signals leave in (event time, event id) order, behind the watermark of their topic, or of their group of topics.

Partitions are counted through all topics of the group here; each topic has its own lateness and its own `idle_after`.

What counts as late is decided within each partition alone (older than what that partition allowed), so it hangs on the topic's
contents and not on how partitions happen to interleave; the watermark of the topic is never ahead of any of its partitions', so
nothing that is in time for its partition comes too late for the topic. The one exception is idleness, where the wall clock
speaks: it is passed in, told to the caller each time, and off in replays. Silence alone is no idleness: who has not read hears
nothing either, so a partition is idle only if its source found nothing left to read there, and lately.

A partition that is added while events flow begins where the watermark stands: nothing that was released is touched, it holds the
watermark from then on like any other, and what it says of earlier times is late.

All state is plain data (dictionaries, lists, tuples), for it goes into snapshots.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple, TypeAlias, TypedDict

from headwater.agents.hops import NONE, Hops

NEVER = -(2**62)
"""Earlier than any event time."""

RECENT = 1_000_000
"""µs for which "the source stood at the end of the partition" is believed: no more than the lateness that topics allow by default."""

LOOK = 100_000
"""µs between two looks at a silent partition whose source is not known to stand at its end."""

Ends: TypeAlias = Sequence[int | None]
"""Per partition: wall clock (µs) when its source last stood at its end, all before it handed over; None or missing: not known."""

Reading: TypeAlias = tuple[str, float]
"""What a rule reads off one event: the key it counts for, and a number."""


class Signal(NamedTuple):
    """What is left of an event once the rules have read it. Sorts by (event time, event id, place).

    thing     the topic key, or the event id where the topic has none
    readings  one per rule, None where the event says nothing to that rule; `readings=None` is a time mark
    hops      the decisions that it came from;  reads  where its enrichers have their facts from, None if there are none
    time, appended are µs since 1970

    Without an id and with empty readings it is a hint: that of an event which no rule wants there is this time, and no more.
    """

    time: int
    id: str
    partition: int
    offset: int
    thing: str = ""
    appended: int = 0
    readings: tuple[Reading | None, ...] | None = None
    hops: Hops = NONE
    reads: Mapping[str, Any] | None = None

    @property
    def is_event(self) -> bool:
        """Whether it stands for an event that rules look at; else it is a mark or a hint."""
        return bool(self.id)


class Order(TypedDict):
    """The reorder buffer of one topic, or of a group.

    floors     per partition: no event earlier than this is in time there (newest event − lateness, or a mark)
    heard      per partition: wall clock of the last arrival
    watermark  all events earlier than this have been released; never falls
    waiting    a heap of signals not yet released
    seen       event id → event time of what was released within the lateness; `recent` holds the same in order
    skipped    partitions that do not hold the watermark now
    """

    floors: list[int]
    heard: list[int]
    watermark: int
    waiting: list[Signal]
    seen: dict[str, int]
    recent: deque[tuple[int, str]]
    skipped: tuple[int, ...]


class Idle(NamedTuple):
    """The idle path was taken: these partitions did not hold the watermark; `clock`: all of them, the wall clock moved it."""

    partitions: tuple[int, ...]
    clock: bool
    before: int
    after: int
    changed: bool


def begin(partitions: int, now: int) -> Order:
    """An empty buffer; `now` (wall clock, µs) is when the partitions' silence starts to count."""
    return Order(
        floors=[NEVER] * partitions, heard=[now] * partitions, watermark=NEVER,
        waiting=[], seen={}, recent=deque(), skipped=(),
    )  # fmt: skip


def grow(order: Order, partitions: int, now: int) -> None:
    """Have the buffer hold so many partitions; it never holds fewer than before. The silence of new ones counts from `now` (µs)."""
    more = partitions - len(order["floors"])
    order["floors"] += [order["watermark"]] * more
    order["heard"] += [now] * more


def arrive(order: Order, signal: Signal, lateness: int) -> bool:
    """Take a signal into the buffer; False if it is late. Signals of one partition must come in offset order."""
    floors, partition, time = order["floors"], signal.partition, signal.time
    floor = floors[partition]
    in_time = time >= floor and time >= order["watermark"]
    if in_time:
        heappush(order["waiting"], signal)
    floors[partition] = max(floor, time if signal.readings is None else time - lateness)
    return in_time


def advance(order: Order, now: int, lateness: int, idle_after: Sequence[int] | None, ends: Ends = ()) -> Idle | None:
    """Raise the watermark as far as the partitions allow. `idle_after`: per partition; None switches the idle path off.

    lateness  the greatest of the group: with everything silent, that far behind the clock the watermark stays

    A partition of which `ends` tells nothing (its source may run in another process) is never idle: it holds the watermark.
    """
    before, floors = order["watermark"], order["floors"]
    skipped: tuple[int, ...] = ()
    if idle_after is not None:
        skipped = tuple(partition for partition in range(len(floors)) if _is_idle(order, partition, now, idle_after[partition], ends))
    clock = len(skipped) == len(floors)
    if clock:  # what was appended after a source stood at the end is not known here: time is not later than that
        held = min(now, *(_stood(ends, partition) or now for partition in skipped)) - lateness
    else:
        held = min(floor for partition, floor in enumerate(floors) if partition not in skipped)
    after = order["watermark"] = max(before, held)
    changed, order["skipped"] = skipped != order["skipped"], skipped
    return Idle(skipped, clock, before, after, changed) if skipped or changed else None


def _stood(ends: Ends, partition: int) -> int | None:
    return ends[partition] if partition < len(ends) else None


def _is_idle(order: Order, partition: int, now: int, idle_after: int, ends: Ends) -> bool:
    """Silent for long enough, and for want of events: its source stood at its end a moment ago, after the last arrival."""
    heard, stood = order["heard"][partition], _stood(ends, partition)
    return now - heard >= idle_after and stood is not None and stood >= heard and now - stood <= RECENT


def release(order: Order) -> Signal | None:
    """The next signal behind the watermark, or None. An event at the watermark itself waits: its equals may still come."""
    waiting = order["waiting"]
    return heappop(waiting) if waiting and waiting[0].time < order["watermark"] else None


def repeated(order: Order, time: int, id: str, lateness: int, horizon: int) -> bool:
    """Whether an event of this id was released within the lateness before; if not, remember it for the horizon (no shorter)."""
    seen, recent = order["seen"], order["recent"]
    while recent and recent[0][0] < time - horizon:
        then, gone = recent.popleft()
        if seen.get(gone) == then:
            del seen[gone]
    before = seen.get(id)
    if before is not None and before >= time - lateness:
        return True
    seen[id] = time
    recent.append((time, id))
    return False


def wake_at(order: Order, deadline: int | None, now: int, lateness: int, idle_after: Sequence[int], ends: Ends = ()) -> int | None:
    """Wall clock (µs) at which time alone may move something; None: nothing waits.

    `deadline` is the earliest event time at which something falls due. At most a minute ahead.
    """
    moments = [order["waiting"][0].time] if order["waiting"] else []
    if deadline is not None:
        moments.append(deadline)
    if not moments:
        return None
    silent = [heard + after for heard, after in zip(order["heard"], idle_after, strict=True)]
    awake = [moment for moment in silent if moment > now]
    moment = min(awake) if awake else max(now, min(moments) + lateness) + 1
    if any(since <= now and not _is_idle(order, partition, now, idle_after[partition], ends) for partition, since in enumerate(silent)):
        moment = min(moment, now + LOOK) if awake else now + LOOK  # only its source can tell when it will be idle
    return min(moment, now + 60_000_000)
