"""What an agent saw and was answered then, for a replay: searches and tools that answer from the record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from headwater.agents.activation import Activation
from headwater.agents.agent import Agent
from headwater.agents.case import Case
from headwater.agents.context import Answer as Searched
from headwater.agents.context import Found, Search
from headwater.agents.memory import Draft, Memories, Memory
from headwater.agents.reins import Held, Rein, Reins
from headwater.agents.rethrown import as_then
from headwater.agents.tool import Tool
from headwater.lineage.errors import NotFound
from headwater.lineage.event import Position

_FOR_EVER = 2**62


class Hit(msgspec.Struct, frozen=True):
    """A chunk as the record has it."""

    id: str
    document: str
    version: int
    n: int
    section: str
    text: str
    score: float
    dense: float
    position: str


class Results(NamedTuple):
    """The answer to a search, as a `context.Answer`."""

    results: Sequence[Found]
    as_of: Mapping[str, int]
    staleness_ms: float
    too_new: int


class Remembered(Memories):
    """What the agent remembered then, and over what it had suspended; what it wants to remember now is kept nowhere.

    `begins` is called as each attempt begins.
    """

    def __init__(self, case: Case, begins: Callable[[], None]) -> None:
        super().__init__()
        self._case, self._begins = case, begins

    def draft(self, agent: str, journal: str, activation: Activation, now: int) -> Draft:
        self._begins()
        return Draft(self._case.recalled, agent=agent, waited=self._case.resumes)

    def suspended(self, journal: str, activation: Activation, now: int) -> Memory | None:
        if self._case.resumes is None:
            return None
        values = msgspec.Raw(msgspec.json.encode(self._case.recalled))
        return Memory(correlation=self._case.correlation, key=activation.key, values=values, until=_FOR_EVER, suspended=self._case.resumes)


class AsHeld(Reins):
    """Agents that were held back then are so again: agent name → reason. Of the others nothing is known of before."""

    def __init__(self, held: Mapping[str, str]) -> None:
        super().__init__()
        self._held = held

    def of(self, agent: Agent) -> Rein:
        reason = self._held.get(agent.name)
        return super().of(agent) if reason is None else _Holding(agent, reason)


class _Holding(Rein):
    def __init__(self, agent: Agent, reason: str) -> None:
        super().__init__(agent)
        self._reason = reason

    def look(self, now: int) -> Held | None:
        text = f"{self.agent.name} was held back by its {self._reason} then, and is so here"
        return Held("budget" if self._reason == "budget" else "breaker", text)


class _Recorded:
    """What was answered then. The same question asked again in one attempt gets the next of its answers, the last for ever.

    What the attempt that answered did not ask, those before it may have.
    """

    def __init__(self, case: Case, kind: str) -> None:
        self._all = [[step.data for step in steps if step.kind == kind] for steps in (case.steps, case.earlier)]
        self.begin()

    def begin(self) -> None:
        """Another attempt begins: it may ask all of it anew."""
        self._left = [list(each) for each in self._all]

    def _next(self, asked: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        for left in self._left:
            places = [place for place, data in enumerate(left) if asked(data)]
            if places:
                return left.pop(places[0]) if len(places) > 1 else left[places[0]]
        return None


class Searches(_Recorded):
    """The searches of a case."""

    def __init__(self, case: Case) -> None:
        super().__init__(case, "retrieval")

    def search(
        self, text: str, *, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position], wait_s: float, as_of: int | None
    ) -> Results:
        asked = (text, limit, dict(where or {}))
        data = self._next(lambda data: (data.get("query"), data.get("limit"), data.get("where") or {}) == asked)
        if data is None:
            raise NotFound(f"the agent searches for {text!r} (limit {limit}, where {dict(where or {})}), which it did not then; see --now")
        hits = [msgspec.convert(result, Hit) for result in data.get("results") or ()]
        return Results(hits, data.get("as_of") or {}, data.get("staleness_ms") or 0.0, data.get("too_new") or 0)


class Without:
    """A search that does not find certain chunks."""

    def __init__(self, search: Search, left_out: frozenset[str]) -> None:
        self._search, self._left_out = search, left_out

    def search(
        self, text: str, *, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position], wait_s: float, as_of: int | None
    ) -> Results:
        found: Searched = self._search.search(text, limit=limit, where=where, after=after, wait_s=wait_s, as_of=as_of)
        kept = [hit for hit in found.results if hit.id not in self._left_out]
        return Results(kept, found.as_of, found.staleness_ms, found.too_new)


class Tools(_Recorded):
    """The tools of a case: each call answers, or fails, as it did then."""

    def __init__(self, case: Case) -> None:
        super().__init__(case, "tool")

    async def ask(self, tool: Tool, arguments: Mapping[str, Any]) -> Any:
        data = self._next(lambda data: data.get("tool") == tool.name and data.get("arguments") == dict(arguments))
        if data is None:
            raise NotFound(f"the agent calls {tool.name}({dict(arguments)}), which it did not then; see --now")
        if "error" in data:
            raise as_then(data)
        return data.get("answer")
