"""The course of one decision: what the journal says of its effects, and what comes next. Pure: a new owner goes on where the log ends."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from headwater.agents.journal import Answered, Calling, Decided, Done, Entry, Judged, Outgoing, Started
from headwater.agents.review import review_id

Outcome: TypeAlias = Literal["acted", "no_action", "approved", "declined", "expired", "dead_lettered"]


class Send(NamedTuple):
    """Publish these, with a `done` that names them."""

    events: tuple[Outgoing, ...]


class Make(NamedTuple):
    """Make this call. `since`: when it was last started, µs; None: never."""

    call: Calling
    since: int | None


class Ask(NamedTuple):
    """Nobody knows what became of this call: ask a person."""

    call: Calling
    answered: Answered


class Wait(NamedTuple):
    """A review waits for its verdict."""

    review: str


class End(NamedTuple):
    """How it ended; `error` where it is a dead letter."""

    outcome: Outcome
    error: str = ""


Step: TypeAlias = Send | Make | Ask | Wait | End


class Sent(NamedTuple):
    """An event went out: the token of its position, and when, µs."""

    token: str
    at: int


@dataclass(slots=True)
class Course:
    """What is known of one decision. Of one thing said twice the first counts; of starts the latest."""

    decided: Decided | None = None
    sent: dict[str, Sent] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    answered: dict[str, Answered] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)

    def apply(self, entry: Entry, at: int | None = None) -> None:
        """Take one entry in log order. `at`: when its events went out, if that is known better than when it was written."""
        match entry:
            case Decided():
                self.decided = self.decided or entry
                return
            case Started():
                self.started[entry.effect] = max(entry.at, self.started.get(entry.effect, 0))
            case Answered():
                self.answered.setdefault(entry.effect, entry)
            case Judged():
                self.judged.setdefault(entry.review, entry)
            case Done():
                tokens = (*entry.positions, *[""] * (len(entry.effects) - len(entry.positions)))
                for effect, token in zip(entry.effects, tokens, strict=False):
                    self.sent.setdefault(effect, Sent(token, entry.at if at is None else at))
        self.entries.append(entry)

    def applied(self, entries: Iterable[Entry]) -> "Course":
        for entry in entries:
            self.apply(entry)
        return self


def following(course: Course) -> Step:
    """What is to be done next. The course must know its decision."""
    decided = course.decided
    assert decided is not None, "a course without its decision"
    outcome: Outcome = "acted"
    if decided.state == "no_action":
        return End("no_action")
    if decided.state == "waiting":
        if decided.review is None:
            return End("declined")
        if decided.review.id not in course.sent:
            return Send((decided.review,))
        stop = _judged(course, decided.review.id)
        if stop is not None:
            return stop
        outcome = "approved"
    for each in parts(course):
        if not isinstance(each, Calling):
            left = tuple(event for event in each if event.id not in course.sent)
            if left:
                return Send(left)
            continue
        answered = course.answered.get(each.id)
        if answered is None:
            return Make(each, course.started.get(each.id))
        if answered.state == "failed":
            return End("dead_lettered", f"{each.tool} refused the call {each.id}: {answered.error}")
        if answered.state == "unknown":
            review = review_id(each.id)
            if review not in course.sent:
                return Ask(each, answered)
            stop = _judged(course, review)
            if stop is not None:
                return stop
            outcome = "approved"
    return End(outcome)


def parts(course: Course) -> Iterator[tuple[Outgoing, ...] | Calling]:
    """The effects in order: calls, and the events between them together."""
    assert course.decided is not None
    if not course.decided.calls:
        published = effects_of(course)
        if published:
            yield published
        return
    events: list[Outgoing] = []
    effects: list[Outgoing | Calling] = [*effects_of(course), *course.decided.calls]
    for each in sorted(effects, key=lambda effect: effect.ordinal):
        if isinstance(each, Calling):
            if events:
                yield tuple(events)
                events = []
            yield each
        else:
            events.append(each)
    if events:
        yield tuple(events)


def effects_of(course: Course) -> tuple[Outgoing, ...]:
    """The decision's events, with the choice that the verdict put in the place of its own."""
    decided = course.decided
    assert decided is not None
    judged = course.judged.get(decided.review.id) if decided.review is not None else None
    if judged is None or judged.choice is None:
        return decided.effects
    return changed(decided, judged.choice)


def changed(decided: Decided, choice: Any) -> tuple[Outgoing, ...]:
    """The events with another choice: those whose data is the choice carry the new one."""
    data = msgspec.Raw(msgspec.json.encode(choice))
    return tuple(msgspec.structs.replace(each, data=data) if carries(decided, each) else each for each in decided.effects)


def carries(decided: Decided, event: Outgoing) -> bool:
    """Whether an event's data is the decision's choice."""
    return decided.choice is not None and msgspec.json.decode(event.data) == decided.choice


def asks(course: Course) -> str:
    """The review that is asked next, or waits for its verdict; empty: none. Some readers see a question before it is committed."""
    step = following(course) if course.decided is not None else None
    match step:
        case Wait(review):
            return review
        case Ask(call, _):
            return review_id(call.id)
        case Send((event,)) if course.decided is not None and event == course.decided.review:
            return event.id
    return ""


def _judged(course: Course, review: str) -> Wait | End | None:
    """None: it was approved, go on."""
    judged = course.judged.get(review)
    if judged is None:
        return Wait(review)
    return None if judged.verdict == "approved" else End(judged.verdict)
