"""The demo: days of New York's 2013 through the whole walk, and what came of it."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from headwater.agents.activation import Activation, activation_of
from headwater.flows.drain import drain
from headwater.flows.meter import Meter
from headwater.flows.nyc import data, truth
from headwater.flows.nyc.app import app
from headwater.flows.nyc.spoiled import spoiled
from headwater.flows.recovery import hold
from headwater.flows.replay import Replay
from headwater.flows.runtime import wall_clock
from headwater.flows.settings import Settings
from headwater.flows.sink import Outgoing
from headwater.flows.up import Up
from headwater.lineage.duration import from_datetime
from headwater.lineage.event import Event, from_binary
from headwater.lineage.queries import Stage, Why, freshness, life, showpiece, why
from headwater.lineage.store import Store
from headwater.lineage.topic import ACTIVATIONS
from headwater.lineage.verify import verify

AHEAD = 4
"""Events published beyond the index's progress, of the 500 allowed: a larger burst would measure itself, not the system."""
AHEAD_NO_INDEX = 5_000


@dataclass
class Summary:
    """What a run of the demo found. `seconds` of the replay; `freshness` and `life` in milliseconds."""

    start: date
    end: date
    home: str
    indexed: bool
    seconds: float = 0.0
    published: dict[str, int] = field(default_factory=dict)
    marks: int = 0
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)
    verified: bool = False
    offences: tuple[str, ...] = ()
    activations: dict[str, dict[str, int]] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    choices: list[dict[str, Any]] = field(default_factory=list)
    freshness: dict[str, float | None] = field(default_factory=dict)
    position: str = ""
    life: list[Stage] = field(default_factory=list)
    score: truth.Score | None = None
    rates: dict[str, float] = field(default_factory=dict)
    fired: list[Activation] = field(default_factory=list, repr=False)
    why: Why | None = field(default=None, repr=False)

    def as_data(self) -> dict[str, Any]:
        """Plain data, whole: every activation with its events, and the path of the decision shown."""
        plain = asdict(replace(self, fired=[], why=None))
        return plain | {"fired": msgspec.to_builtins(self.fired), "why": msgspec.to_builtins(self.why)}


Watching = Callable[[Meter], AbstractContextManager[Callable[[int], None] | None]]
"""What shows the progress: given the meter, a context whose value is called with every event hour (µs) that is over."""


def run(settings: Settings, start: date, end: date, *, index: bool = True, watching: Watching | None = None) -> Summary:
    """Replay the days from `start` to `end` (inclusive). The state lies in the home's folder `demo`, which is made anew.

    `index=False`: decode and detect only, for whole years. Raises Misused, Unavailable.
    """
    home = settings.home / "demo"
    summary = Summary(start, end, str(home), index)
    events = data.events(start, end)
    clear(home)
    flows = ("index", "detect", "decide", "audit") if index else ("detect", "audit")
    with Up(app, replace(settings, home=home), flows=flows, http=False, idle=False) as up:
        watch = watching(up.run.meter) if watching is not None else nullcontext()
        with watch as told:
            _replay(up, summary, _counted(events, summary), told)
        summary.fired = _fired(up)
    with Store(home / "lineage.duckdb", clock=wall_clock) as store:
        _read(store, summary)
    summary.activations = _by_rule(summary.fired)
    summary.score = truth.score([each for each in summary.fired if each.key in data.AIRPORTS], start, end)
    return summary


def clear(home: Path) -> None:
    """Make the folder anew, unless a headwater runs in it. Raises Misused if one does."""
    lock = hold(home / "lock", f"headwater in {home}")
    for entry in home.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()
    lock.close()


def _replay(up: Up, summary: Summary, events: Iterable[tuple[str, Event]], told: Callable[[int], None] | None) -> None:
    began = time.monotonic()
    pace, ahead = ("index", AHEAD) if summary.indexed else ("detect", AHEAD_NO_INDEX)
    replay = Replay(up, ahead=ahead, first=[data.WEATHER], told=told, pace=pace)
    bad = spoiled(_midnight(summary.start))
    replay.run(events, [Outgoing(each.topic, each.key, each.value, each.headers) for each in bad])
    read = app.indexed if summary.indexed else app.watched
    summary.seconds, summary.marks = time.monotonic() - began, sum(replay.marks[topic] for topic in read)
    summary.published["spoiled"] = len(bad)
    summary.published["procedures"] = len(up.file_positions)
    summary.rates = {what: many / summary.seconds for what, many in up.run.meter.counts().items()}


def _midnight(day: date) -> int:
    return from_datetime(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(data.ZONE)))


def _counted(events: Iterable[tuple[str, Event]], summary: Summary) -> Iterator[tuple[str, Event]]:
    for topic, event in events:
        summary.published[topic] = summary.published.get(topic, 0) + 1
        yield topic, event


def _fired(up: Up) -> list[Activation]:
    """All activations, from their topic, in order of firing."""
    messages = [m for partition in range(up.app.activations) for m in drain(up.run.kafka, ACTIVATIONS, partition, 0)]
    fired = [activation_of(from_binary(m.headers, m.value, topic=ACTIVATIONS, appended=0)) for m in messages]
    unique = {activation.id: activation for activation in fired}
    return sorted(unique.values(), key=lambda activation: (activation.at, activation.rule, activation.key))


def _by_rule(fired: Iterable[Activation]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for activation in fired:
        counts.setdefault(activation.rule, Counter())[activation.phase] += 1
    return {rule: dict(counter) for rule, counter in sorted(counts.items())}


def _read(store: Store, summary: Summary) -> None:
    """What landed."""
    verdict = verify(store, in_flight_ok=False)
    summary.verified, summary.offences, summary.outcomes = verdict.ok, verdict.offences, verdict.totals
    with store.cursor() as cursor:
        run = cursor.execute
        summary.dead_letters = dict(run("SELECT cause, count(*) FROM dead_letters GROUP BY cause ORDER BY cause").fetchall())
        summary.decisions = dict(run("SELECT outcome, count(*) FROM decisions GROUP BY outcome ORDER BY outcome").fetchall())
        rows = run('SELECT activation, agent, rule, "key", choice, confidence, outcome, id FROM decisions ORDER BY "time", id')
        names = [column[0] for column in rows.description or ()]
        summary.choices = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    if not summary.indexed:
        return
    found = freshness(store)
    summary.freshness = {"documents": found.documents, "p50_ms": found.p50_ms, "p99_ms": found.p99_ms, "max_ms": found.max_ms}
    piece = showpiece(store)
    if piece is not None:
        summary.position, summary.why, summary.life = piece.position, why(store, piece.decision), life(store, piece.position)
