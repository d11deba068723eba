"""The book: what a journal says, folded into the courses of its decisions."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from headwater.agents.course import Course, End, Outcome, following
from headwater.agents.journal import Decided, Entry

KEPT = 100_000


class Ended(msgspec.Struct, frozen=True):
    """What the book keeps of a decision that is finished or waits: enough to tell a resubmitted activation from a duplicate."""

    state: Outcome | Literal["waiting"]
    position: str


class Book:
    """A journal's courses. Those that ended are kept shortened, the newest `kept` of them."""

    def __init__(self, entries: Iterable[Entry] = (), *, kept: int = KEPT) -> None:
        self._courses: dict[str, Course] = {}
        self._ended: dict[str, Ended] = {}
        self._kept = kept
        for entry in entries:
            self.apply(entry)

    def apply(self, entry: Entry, at: int | None = None) -> None:
        """Take one entry in log order; what comes after the end changes nothing. `at`: see Course."""
        if entry.id not in self._ended:
            self._courses.setdefault(entry.id, Course()).apply(entry, at)

    def course(self, decision: str) -> Course | None:
        """The course, while it is not ended. It may lack its decision, if that lies before what was read."""
        return self._courses.get(decision)

    def decided(self, decision: str) -> Decided | None:
        """The decision, while it is not ended."""
        course = self._courses.get(decision)
        return course.decided if course is not None else None

    def ended(self, decision: str) -> Ended | None:
        return self._ended.get(decision)

    def state(self, decision: str) -> Literal["unknown", "decided", "started", "done"]:
        if decision in self._ended:
            return "done"
        course = self._courses.get(decision)
        if course is None:
            return "unknown"
        if course.decided is not None and isinstance(following(course), End):
            return "done"
        return "started" if course.started or course.sent else "decided"

    def end(self, decided: Decided, state: Outcome | Literal["waiting"]) -> None:
        """The decision's outcome is handed over, or its review waits: keep that only."""
        self._ended.pop(decided.id, None)
        self._ended[decided.id] = Ended(state, decided.position)
        self._courses.pop(decided.id, None)
        while len(self._ended) > self._kept:
            self._ended.pop(next(iter(self._ended)))

    def take_up(self, decided: Decided, entries: Sequence[Entry]) -> Course:
        """Go on with a decision that waited: `entries` is what was known of its course then; what the book has read since follows."""
        self._ended.pop(decided.id, None)
        since = self._courses.get(decided.id)
        known = Course(decided).applied(entries)
        for entry in since.entries if since is not None else ():
            if entry not in known.entries:
                known.apply(entry)
        self._courses[decided.id] = known
        return known
