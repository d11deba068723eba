"""Doubles for tests of agents: a model with fixed answers, a search in memory, a journal in memory that can die."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headwater.agents.activation import Activation, activation_id
from headwater.agents.agent import Decision, Option
from headwater.agents.book import Book
from headwater.agents.context import Chooser, Chosen, Context, Evidence
from headwater.agents.journal import Decided, Done, Entry, Outgoing, decode, encode
from headwater.lineage.errors import Behind, NotFound
from headwater.lineage.event import Position

SECOND = 1_000_000


def activation(key: str = "EWR", at: int = 0, rule: str = "cancellations", **fields: Any) -> Activation:
    """An activation with its id; `at` in µs."""
    name = activation_id(rule, key, at)
    given: dict[str, Any] = {"phase": "opened", "value": 0.3, "episode": name, **fields}
    return Activation(id=name, rule=rule, key=key, at=at, **given)


class ScriptedModel:
    """Answers each question with the next of its answers; the last one stays.

    An answer is a choice (confidence 1), a Decision, or an exception to raise.
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, tuple[Evidence, ...]]] = []

    async def choose(self, output: type[Any], situation: str, evidence: Sequence[Evidence]) -> Chosen:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append((situation, tuple(evidence)))
        if isinstance(answer, BaseException):
            raise answer
        decision = answer if isinstance(answer, Decision) else Decision(choice=answer, options=(Option(str(answer), 1.0),))
        return Chosen(decision, model="scripted", prompt=situation, answer=str(decision.choice))


class StallingModel:
    """Another model, before every answer of which a stall (`enrichers.testing.Stall`) is waited for on the loop."""

    def __init__(self, model: Chooser, holds: Callable[[], bool]) -> None:
        self._model, self._holds = model, holds

    async def choose(self, output: type[Any], situation: str, evidence: Sequence[Evidence]) -> Chosen:
        while self._holds():
            await asyncio.sleep(0.02)
        return await self._model.choose(output, situation, evidence)


def scripted(*answers: Any) -> Callable[[Activation, Context], Any]:
    """An agent function that gives the next of its answers at each call, the last one for ever: Decisions, or exceptions to raise."""
    calls = iter(answers)
    last = [answers[-1]]

    async def function(activation: Activation, context: Context) -> Decision[Any]:
        answer = next(calls, last[0])
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Decision), answer
        return answer

    return function


class MemoryHit(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    document: str
    text: str
    version: int = 1
    n: int = 0
    section: str = ""
    score: float = 1.0
    dense: float = 1.0
    time: int = 0
    position: str = ""


class MemoryAnswer(msgspec.Struct, frozen=True):
    results: tuple[MemoryHit, ...]
    as_of: dict[str, int]
    staleness_ms: float = 0.0
    too_new: int = 0


class MemorySearch:
    """A search over given chunks: best is who shares most words with the query. `progress` says how far the index has come."""

    def __init__(self, hits: Sequence[MemoryHit] = (), progress: Mapping[str, int] | None = None) -> None:
        self.hits = list(hits)
        self.progress = progress
        self.asked: list[dict[str, Any]] = []

    def search(
        self, text: str, *, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position], wait_s: float, as_of: int | None
    ) -> MemoryAnswer:
        self.asked.append({"text": text, "limit": limit, "where": where, "after": tuple(after), "as_of": as_of})
        for position in after:
            reached = position.offset + 1 if self.progress is None else self.progress.get(f"{position.topic}/{position.partition}", 0)
            if reached <= position.offset:
                raise Behind(f"the index stands at {reached} of {position.short}; try again soon")
        words = set(text.lower().split())
        seen = [hit for hit in self.hits if as_of is None or hit.time <= as_of]
        scored = [msgspec.structs.replace(hit, score=len(words & set(hit.text.lower().split())) / (len(words) or 1)) for hit in seen]
        best = sorted(scored, key=lambda hit: (-hit.score, hit.id))[:limit]
        return MemoryAnswer(tuple(best), dict(self.progress or {}), too_new=len(self.hits) - len(seen))


class Died(Exception):
    """The process is gone: nothing after this happens."""


class MemoryLog:
    """What the broker keeps: one partition of decisions, and every event published, in order. It outlives the processes."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.published: list[Outgoing] = []

    def read(self) -> list[Entry]:
        return [decode(entry) for entry in self.entries]

    def book(self) -> Book:
        """The log folded, as a new owner reads it."""
        return Book(self.read())


class MemoryJournal:
    """A journal over a MemoryLog. `lives` counts its steps: at the given one it dies, and stays dead.

    Steps lie before and after every write; `perform` has one more before each event, as an aborted transaction leaves
    what it had already sent to be read on some brokers.
    """

    def __init__(self, log: MemoryLog, broker: str = "memory", *, lives: int | None = None) -> None:
        self.log = log
        self.broker = broker
        self.lives = lives

    def _step(self) -> None:
        if self.lives is None:
            return
        if self.lives <= 0:
            raise Died("this journal's process was killed")
        self.lives -= 1

    async def append(self, entries: Sequence[Entry]) -> None:
        await self._write(entries)

    async def _write(self, entries: Sequence[Entry]) -> None:
        self._step()
        await asyncio.sleep(0)
        self.log.entries.extend(encode(entry) for entry in entries)
        self._step()

    async def perform(self, effects: Sequence[Outgoing], done: Done, decided: Decided | None = None) -> list[str]:
        if decided is not None:
            await self._write([decided])
        tokens = []
        for effect in effects:
            self._step()
            await asyncio.sleep(0)
            self.log.published.append(effect)
            tokens.append(str(Position(self.broker, effect.topic, 0, len(self.log.published) - 1)))
        self._step()
        self.log.entries.append(encode(done.placed(tokens)))
        self._step()
        return tokens

    def place(self, decision: str) -> int:
        return next(n for n, entry in enumerate(self.log.read()) if isinstance(entry, Decided) and entry.id == decision)

    async def recall(self, decision: str, place: int) -> Decided:
        self._step()
        entry = decode(self.log.entries[place])
        if not isinstance(entry, Decided) or entry.id != decision:
            raise NotFound(f"the journal has no decision {decision} at {place}")
        return entry
