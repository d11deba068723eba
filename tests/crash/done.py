"""What a run of the effects-once tests left: what must hold of it by itself, and what must be equal however often it was killed."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from crash.acts import DECIDED, PARTITIONS

from headwater.agents.agent import effect_id
from headwater.agents.course import Course, End, effects_of, following
from headwater.agents.journal import Answered, Calling, Decided, Entry, Judged, decode_page
from headwater.agents.review import REQUESTED, review_id
from headwater.agents.verdict import JUDGED
from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka
from headwater.lineage.store import open_database
from headwater.lineage.topic import ACTIVATIONS, DEAD, DECISIONS, REVIEWS
from headwater.lineage.verify import verify

Counts = Mapping[str, Mapping[str, int]]


class Done(NamedTuple):
    """What must be equal between runs. Texts are without the mark that differs each time a choice is made.

    decisions  (agent, key, activation) → state, choice, what is remembered, what was spent
    deeds      event id → its text;  calls  effect id → tool
    verdicts   review → what was said;  but of what became of calls, for that a kill may leave open
    """

    activations: frozenset[str]
    decisions: dict[tuple[str, str, str], tuple[Any, ...]]
    deeds: dict[str, str]
    calls: dict[str, str]
    verdicts: dict[str, tuple[str, str]]


def done_by(home: Path, kafka: Kafka, counts: Counts, inside: Collection[str] = ()) -> Done:
    """Check what must hold of any run by itself.

    counts   what the service did;  inside  reconcilable effects whose call stood still for longer than its lease: they may be doubled
    """
    messages = {
        topic: [m for p in range(count) for m in drain(kafka, topic, p, 0, "read_uncommitted")] for topic, count in PARTITIONS.items()
    }
    assert not messages[DEAD], messages[DEAD]
    courses = _courses(messages[DECISIONS])
    _called(courses, counts, inside)
    _budget(courses)
    questions = _questions(messages[REVIEWS], courses)
    _lineage(home, courses, questions)
    return Done(
        activations=frozenset(_id(m) for m in messages[ACTIVATIONS]),
        decisions={(d.agent, d.key, d.activation): _made(d) for d in _decided(courses)},
        deeds=_published(messages["deeds"], courses),
        calls={call.id: call.tool for course in courses.values() for call in _due(course)},
        verdicts={
            review: (each.verdict, each.by) for course in courses.values() for review, each in course.judged.items()
            if review == review_id(each.id)
        },
    )  # fmt: skip


def _id(message: Any) -> str:
    return dict(message.headers)["ce_id"].decode()


def _entries(messages: list[Any]) -> Iterable[Entry]:
    for message in messages:
        if "agent" in dict(message.headers):
            yield from decode_page(message.value)


def _courses(messages: list[Any]) -> dict[str, Course]:
    """The journal, folded; decided once each, in order for each key; all ended."""
    courses: dict[str, Course] = {}
    order: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for entry in _entries(messages):
        course = courses.setdefault(entry.id, Course())
        if isinstance(entry, Decided):
            assert course.decided is None, f"decided twice: {entry.agent} on {entry.activation}"
            order[entry.agent, entry.key, "calms" if "settled" in entry.summary else "risings"].append(entry.at)
        if isinstance(entry, Answered):
            assert entry.effect not in course.answered, f"answered twice: {entry}"
        if isinstance(entry, Judged):
            assert entry.review not in course.judged, f"judged twice: {entry}"
        course.apply(entry)
    for place, times in order.items():
        assert times == sorted(times), (place, times)
    ends = {id: following(course) for id, course in courses.items() if course.decided is not None}
    assert len(ends) == len(courses) and all(isinstance(end, End) for end in ends.values()), ends
    assert {end.outcome for end in ends.values() if isinstance(end, End)} <= {"acted", "approved", "declined", "no_action"}, ends
    assert Counter(d.agent for d in _decided(courses)) == DECIDED
    return courses


def _decided(courses: Mapping[str, Course]) -> list[Decided]:
    return [course.decided for course in courses.values() if course.decided is not None]


def _due(course: Course) -> tuple[Calling, ...]:
    """The calls that the decision, as it was judged, makes."""
    assert course.decided is not None
    judged = course.judged.get(review_id(course.decided.id))
    return course.decided.calls if course.decided.state == "acted" or (judged is not None and judged.verdict == "approved") else ()


def _called(courses: Mapping[str, Course], counts: Counts, inside: Collection[str]) -> None:
    """Idempotent and reconcilable once; plain never twice, and once where nobody had to be asked."""
    due = {call.id: (call, course) for course in courses.values() for call in _due(course)}
    for kind in ("idempotent", "reconcilable", "plain"):
        wanted = {id for id, (call, _) in due.items() if call.kind == kind}
        assert set(counts[kind]) <= wanted, f"{kind}: {set(counts[kind]) - wanted} were never decided, or declined"
        for id in wanted:
            call, course = due[id]
            assert call.id == effect_id(course.decided.id, call.ordinal)
            times, answered = counts[kind].get(id, 0), course.answered[id]
            if kind == "plain":
                assert times <= 1, f"plain {id} was done {times} times"
                assert answered.state == "unknown" or times == 1, (answered, times)
            else:
                assert answered.state == "done", answered
                assert times == 1 or (id in inside and times == 2), f"{kind} {id} was done {times} times: {course}"


def _published(messages: list[Any], courses: Mapping[str, Course]) -> dict[str, str]:
    """Each event under its own id, however often it was sent; none that is not due, none that lacks."""
    wanted = {event.id: json.loads(bytes(event.data)) for course in courses.values() for event in _sendable(course)}
    sent: dict[str, Any] = {}
    for message in messages:
        value = json.loads(message.value)
        assert sent.setdefault(_id(message), value) == value
    assert sent == wanted
    return {id: _unmarked(value["text"]) for id, value in sent.items()}


def _sendable(course: Course) -> tuple[Any, ...]:
    assert course.decided is not None
    judged = course.judged.get(review_id(course.decided.id))
    acts = course.decided.state == "acted" or (judged is not None and judged.verdict == "approved")
    return effects_of(course) if acts else ()


def _unmarked(text: str) -> str:
    words = text.split()
    return " ".join(words[:-1]) if len(words[-1]) == 32 else text


def _made(decided: Decided) -> tuple[Any, ...]:
    choice = decided.choice["text"] if isinstance(decided.choice, dict) else decided.choice
    memory = decided.memory
    remembered = None if memory is None else (memory.correlation, memory.key, bytes(memory.values), memory.suspended is not None)
    spent = {name: each.cost for name, each in decided.spent.items()}
    return decided.state, choice and _unmarked(choice), remembered, spent


def _budget(courses: Mapping[str, Course]) -> None:
    """The running total grows by what each decision cost: nothing forgotten, nothing counted twice."""
    spent = 0.0
    for decided in (each for each in _decided(courses) if each.agent == "spender"):
        spent += decided.cost.get("cost", 0.0)
        assert decided.spent["spender"].cost == spent, (decided.spent, spent)


def _questions(messages: list[Any], courses: Mapping[str, Course]) -> set[str]:
    """Each unsure decision and each call of unknown fate was asked about, and nothing else; whoever answered first is right."""
    asked, said = {}, {}
    for message in messages:
        kind, value = dict(message.headers)["ce_type"].decode(), json.loads(message.value)
        if kind == REQUESTED:
            assert asked.setdefault(_id(message), value) == value
        else:
            assert kind == JUDGED
            said.setdefault(value["review"], value)
    due = {review_id(d.id) for d in _decided(courses) if d.state == "waiting"}
    due |= {review_id(each.effect) for course in courses.values() for each in course.answered.values() if each.state == "unknown"}
    assert set(asked) == due == set(said)
    judged = {review: each for course in courses.values() for review, each in course.judged.items()}
    assert {review: (each.verdict, each.by, each.choice) for review, each in judged.items()} == {
        review: (each["verdict"], each["by"], each.get("choice")) for review, each in said.items()
    }
    return due


def _outcome(course: Course) -> str:
    end = following(course)
    assert isinstance(end, End)
    return end.outcome


def _lineage(home: Path, courses: Mapping[str, Course], questions: Collection[str]) -> None:
    """Conserved, nothing waits, and the records say what the journal says."""
    with open_database(home / "lineage.duckdb", read_only=True) as lineage:
        verdict = verify(lineage, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        assert not any(open in told for told in verdict.totals.values() for open in ("waiting", "in_flight")), verdict.totals
        told = lineage.execute("select id, version, outcome from decisions").fetchall()
        effects = lineage.execute("select id from effects").fetchall()
        accepted = lineage.execute(
            "select ref, data->>'$.by' from records where kind = 'verdict' and (data->>'$.accepted') = 'true'"
        ).fetchall()
    assert {row[0]: row[1:] for row in told} == {d.id: (d.version, _outcome(courses[d.id])) for d in _decided(courses)}
    due = [effect.id for course in courses.values() for effect in (*_sendable(course), *_due(course))]
    assert Counter(id for (id,) in effects) == Counter(due)
    assert Counter(accepted) == Counter((review, "first") for review in questions)
