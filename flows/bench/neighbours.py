"""neighbours: what one agent that is slow, or one that is dead, does to the freshness of the index and to another agent's answers.

Spans of seconds alternate: with the bad neighbour awake, and with as many activations that wake nobody. In each, documents are published
and looked for, and a good agent is woken and its answers awaited. The figure is the worst of the four ratios of medians.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from headwater.agents.activation import Activation, activation_event, activation_id
from headwater.agents.agent import Agent, Decision, Publish
from headwater.agents.context import Context
from headwater.agents.rules import Threshold
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.app import App
from headwater.flows.bench.bed import Bed, Spoiled, now
from headwater.flows.bench.entry import Bench, Round, Target
from headwater.flows.bench.texts import NOTES, Note, note, text
from headwater.flows.bench.waker import SENT, Answers, Sent
from headwater.flows.settings import Settings
from headwater.flows.sink import outgoing
from headwater.flows.up import Up
from headwater.lineage.event import Event
from headwater.lineage.topic import ACTIVATIONS

SECONDS = 6.0
"""Of one span: a bad neighbour comes to its bound in it, 200 activations of each partition."""
AT_ONCE = 200
"""Of all agents, in two partitions: a neighbour at its bound has taken all that the others have no share in."""
CALL_S = 0.02
"""What the good agent's model takes."""
WAKE_S, NEIGHBOUR_S, PUBLISH_S = 0.02, 0.01, 0.05
"""How often the good agent is woken, the neighbour is, and a document is published."""
TIMEOUT = "2s"
"""The dead agent's: half of its calls raise, half never answer."""
FRESHNESS, ANSWERS = "freshness", "answers"


class Span(NamedTuple):
    """What was measured, milliseconds: from producing a document to finding it, and from an activation to the readable answer."""

    fresh: list[float]
    answered: list[float]

    def medians(self) -> tuple[float, float]:
        return float(np.median(self.fresh)), float(np.median(self.answered))


class Neighbourhood:
    """An application of three agents, and what wakes them."""

    def __init__(self, bed: Bed) -> None:
        self._numbers = itertools.count(1)
        self._release = threading.Event()
        self.good = _rule("good")
        self.rules = {name: _rule(name) for name in ("slow", "dead", "nobody")}
        good = Agent("good", self._answer, (self.good,), (SENT,))
        slow = Agent("slow", self._wait, (self.rules["slow"],), timeout="10m")
        dead = Agent("dead", self._fail, (self.rules["dead"],), timeout=TIMEOUT, attempts=1)
        rules = [self.good, *self.rules.values()]
        app = App("bench", documents=[note], triggers=rules, agents=[good, slow, dead], activations=2, root=bed.folder)
        settings = Settings(home=bed.home(), http_port=0, agents_at_once=AT_ONCE)
        self.up = Up(app, settings, flows=("index", "decide", "audit"), http=False, embedder=HashEmbedder())

    @cached_property
    def _read(self) -> Answers:
        """What the good agent publishes, from the first answer on, as it becomes readable."""
        answers = Answers(self.up.run.kafka)
        self.up.run.closing(answers.close)
        return answers

    async def _answer(self, activation: Activation, context: Context) -> Decision[str]:
        await asyncio.sleep(CALL_S)
        return Decision("answered").with_effects(Publish(SENT, Sent(activation.at)))

    async def _wait(self, activation: Activation, context: Context) -> Decision[str]:
        """Answers once its span is over."""
        while not self._release.is_set():
            await asyncio.sleep(0.2)
        return Decision(None)

    async def _fail(self, activation: Activation, context: Context) -> Decision[str]:
        if activation.at % 2:
            raise RuntimeError("no such model")
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    def span(self, neighbour: str, seconds: float) -> Span:
        """One span beside a neighbour; then all that it left is waited for."""
        self._release.clear()
        until = time.perf_counter() + seconds
        with ThreadPoolExecutor(3, "bench-span") as threads:
            fresh, answered = threads.submit(self._fresh, until), threads.submit(self._answers, until)
            threads.submit(self._wake_neighbour, self.rules[neighbour], until).result()
            found = Span(fresh.result(60), answered.result(60))
        self._release.set()
        self._settle()
        return found

    def _wake(self, rule: Threshold, key: str) -> int:
        at = next(self._numbers)
        id = activation_id(rule.name, key, at)
        event = activation_event(Activation(id=id, rule=rule.name, key=key, phase="opened", at=at, value=1.0, episode=id))
        self.up.run.writer.write([outgoing(ACTIVATIONS, event, key)])
        return at

    def _wake_neighbour(self, rule: Threshold, until: float) -> None:
        for _ in _steps(until, NEIGHBOUR_S):
            self._wake(rule, f"key-{next(self._numbers)}")

    def _fresh(self, until: float) -> list[float]:
        found = []
        for _ in _steps(until, PUBLISH_S):
            number, began = next(self._numbers), time.perf_counter()
            said = Note(f"note-{number}", text(number, longest=4))
            event = Event(id=f"event-{number}", source="bench", type=NOTES.name, time=now(), data=NOTES.encode(said))
            places = self.up.run.writer.write([outgoing(NOTES.name, event, NOTES.key_of(said))])
            self.up.run.retriever.search(said.text, limit=1, after=places, wait_s=20)
            found.append((time.perf_counter() - began) * 1000)
        return found

    def _answers(self, until: float) -> list[float]:
        """Milliseconds from waking the good agent to its answer, readable to others."""
        answers = self._read
        woken: dict[int, float] = {}
        for _ in _steps(until, WAKE_S):
            began = time.perf_counter()
            woken[self._wake(self.good, f"key-{len(woken)}")] = began
        answered = answers.wait(woken)
        came = answers.came()
        if not answered:
            raise Spoiled(f"{len(woken.keys() - came.keys())} of the good agent's activations had no answer")
        return [(came[at] - began) * 1000 for at, began in woken.items()]

    def _settle(self) -> None:
        """Until no agent holds anything. Raises Spoiled."""
        until = time.monotonic() + 120
        while any(decider.busy for decider in list(self.up.run.deciders.values())):
            if self.up.failure is not None:
                raise Spoiled(f"flow {self.up.failure[0]} failed: {self.up.failure[1]!r}")
            if time.monotonic() > until:
                raise Spoiled("a neighbour's activations did not end")
            time.sleep(0.05)
        time.sleep(0.5)


def rounds(bed: Bed) -> Iterator[Round]:
    """The worst of the ratios; beside it all four, and the medians (ms) without a bad neighbour.

    Each round has a broker of its own: the embedded one takes longer for each fetch and commit the more batches it holds. And the first
    answers of a process wait for what is loaded then.
    """
    seconds = max(0.4, SECONDS * bed.scale)
    while True:
        hood = Neighbourhood(bed)
        with hood.up:
            hood.span("nobody", seconds / 3)
            ratios: dict[str, float] = {}
            for name in ("slow", "dead"):
                before, beside, after = hood.span("nobody", seconds), hood.span(name, seconds), hood.span("nobody", seconds)
                alone = Span(before.fresh + after.fresh, before.answered + after.answered).medians()
                for what, with_it, without in zip((FRESHNESS, ANSWERS), beside.medians(), alone, strict=True):
                    ratios[f"{what} beside a {name} one"] = with_it / without
            yield Round(max(ratios.values()), None, {**ratios, "freshness alone": alone[0], "answers alone": alone[1]})


def _rule(name: str) -> Threshold:
    return Threshold(name, of=SENT, value=pl.col("at"), opens_at=1, closes_at=0)


def _steps(until: float, every: float) -> Iterator[None]:
    """A step every so many seconds, until then; one that came late is made at once, and none is made twice."""
    due = time.perf_counter()
    while due < until:
        time.sleep(max(0.0, due - time.perf_counter()))
        yield
        due = max(due + every, time.perf_counter())


BENCH = Bench(
    "neighbours",
    "freshness and another agent's answers (medians) beside an agent that is slow, and one that is dead; the worst of four ratios",
    "×",
    (Target("≤", 1.1, "value", "×"),),
    rounds,
)
