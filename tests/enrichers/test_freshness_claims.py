"""Law 4 as a property: whatever sources, workers, stalls and restarts do, nobody claims more than the index has settled."""

import math
import random

import pytest

from headwater.enrichers.freshness import Progress, StoredProgress
from headwater.lineage.errors import Behind
from headwater.lineage.event import Position

PLACES = [("t", 0), ("t", 1)]


class World:
    """Two partitions as they truly are, a flow that reads them, and what it tells. Times in µs."""

    def __init__(self, source):
        self.source = source
        self.now = 1_000_000
        self.log = {place: [] for place in PLACES}
        self.settled = dict.fromkeys(PLACES, 0)
        self.stored = []
        self.begin(dict.fromkeys(PLACES, 0))

    def begin(self, offsets):
        self.progress = Progress("b", lambda: self.now, ["t"], PLACES)
        self.progress.learn(self.stored)
        self.read, self.asked = dict(offsets), {}
        for place, offset in offsets.items():
            self.progress.start(*place, offset)

    def append(self, place):
        """An event, with the time its sender's clock shows, which may be slow."""
        self.log[place].append((self.now, self.now + self.source.choice((0, 0, -50_000))))

    def fetch(self, place):
        first = self.read[place]
        following = min(len(self.log[place]), first + self.source.randint(1, 4))
        if following > first:
            self.progress.note_appended(*place, following, self.log[place][first][1])
            self.read[place] = following
            self.asked.pop(place, None)

    def settle(self, place):
        next = self.source.randint(0, self.read[place])
        self.settled[place] = max(self.settled[place], next)
        self.progress.settle(*place, next)

    def ask(self, place):
        """The broker is asked for the end; its answer comes later."""
        if self.read[place] == len(self.log[place]):
            self.asked[place] = self.now

    def stand(self, place):
        """The answer is in: the source tells that it stands where the broker, when asked, had no more. More may have come since."""
        if place in self.asked:
            self.progress.at_end(*place, self.asked[place], self.read[place])

    def save(self, place):
        self.stored = self.progress.rows()

    def restart(self, place):
        """A kill: the next life begins at a snapshot, at or before what was settled; settled stays settled."""
        self.begin({each: self.source.randint(0, self.settled[each]) for each in PLACES})

    def wait(self, place):
        """Time passes: a stall, if nothing else happens meanwhile."""
        self.now += self.source.choice((1, 700, 40_000, 3_000_000))

    def check(self, reader):
        standing = reader.standing()
        for topic, partition in PLACES:
            assert standing.as_of[f"{topic}/{partition}"] <= self.settled[topic, partition]
        if not math.isinf(standing.staleness_ms):
            claimed = self.now - standing.staleness_ms * 1000
            for place in PLACES:
                unsettled = self.log[place][self.settled[place] :]
                assert all(appended >= claimed - 1 for appended, _ in unsettled), (place, claimed, unsettled[:1])


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_claimed_that_is_not_settled(seed):
    """Random lives of two partitions, some senders' clocks slow: after every step the flow's own word, and that of a
    reader of what it stored, claim no offset that is not settled and no moment before which an event was appended that is not."""
    source = random.Random(seed)
    world = World(source)
    steps = [world.append, world.fetch, world.settle, world.ask, world.stand, world.wait, world.save, world.restart]
    finite = 0
    for _ in range(400):
        source.choices(steps, (6, 6, 6, 5, 5, 6, 2, 0.3))[0](source.choice(PLACES))
        reader = Progress("b", lambda: world.now, ["t"], PLACES)
        reader.learn(world.stored)
        for each in (world.progress, reader):
            world.check(each)
        finite += not math.isinf(world.progress.staleness_ms())
    assert finite > 20


def test_no_event_was_appended_later_than_it_is_read():
    """A sender's clock that runs ahead by an hour makes an index that is behind no fresher than the moment the event was read."""
    now = [1_000_000]
    p = Progress("b", lambda: now[0], ["t"], [("t", 0)])
    p.note_appended("t", 0, 5, 3_600_000_000)
    now[0] += 2_000_000
    assert p.standing().staleness_ms == 2000.0
    p.settle("t", 0, 5)
    assert p.standing().staleness_ms == 2000.0


def test_a_fresh_enough_answer_says_so():
    """What `max_staleness` let through is what the answer tells: no later look at the clock makes it staler than was allowed."""
    ticks = iter(range(1_000_000, 10_000_000, 1_000))
    p = Progress("b", lambda: next(ticks), ["t"], [("t", 0)])
    p.at_end("t", 0, 1_000_000, 0)
    standing = p.wait([], timeout_s=0, max_staleness_us=3_000)
    assert standing.staleness_ms <= 3
    with pytest.raises(Behind):
        p.wait([], timeout_s=0, max_staleness_us=500)


def test_what_waits_on_the_ladder_is_listed_beside_the_progress():
    """A position below `as_of` that failed for now is named until it arrives or is a dead letter; of very many the first hundred."""
    p = Progress("b", lambda: 0, ["t"], PLACES)
    for offset in (7, 3):
        p.moved(Position("b", "t", 1, offset))
    p.settle("t", 1, 9)
    assert p.standing().retrying == ("t/1@3", "t/1@7") and p.standing().as_of["t/1"] == 9
    p.arrived(Position("b", "t", 1, 3))
    p.dead_letter(Position("b", "t", 1, 7), "dl")
    assert p.standing().retrying == ()
    for offset in range(150):
        p.moved(Position("b", "t", 0, offset))
    assert p.standing().retrying == tuple(f"t/0@{offset}" for offset in range(100))


def test_a_reader_elsewhere_sees_a_dead_index_grow_stale(world):
    """The index process died: what it stored last stays, every answer is older than the one before, a demand for freshness is refused."""
    now = [1_000_000]
    told = Progress("b", lambda: now[0], ["notes"])
    told.at_end("notes", 0, 1_000_000, 0)
    world.index.save_progress(told.rows())
    reader = StoredProgress(world.index, "b", lambda: now[0], ["notes"], [("notes", 0)])
    seen = []
    for _ in range(3):
        now[0] += 500_000
        seen.append(reader.wait([], 0).staleness_ms)
    assert seen == [500.0, 1000.0, 1500.0]
    with pytest.raises(Behind, match=r"1\.500 s behind"):
        reader.wait([], timeout_s=0, max_staleness_us=1_000_000)
