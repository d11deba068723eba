"""Cases of decisions, from the headwater that runs or from the files of one that is stopped; and a search of what is known now."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import msgspec

from headwater.agents.case import Case, case_of, decided_since
from headwater.agents.recorded import Hit, Results
from headwater.flows.app import App
from headwater.flows.door import Door
from headwater.flows.settings import Settings
from headwater.lineage.client import step_of
from headwater.lineage.errors import Gone, HeadwaterError, Misused, NotFound
from headwater.lineage.event import Position


def which(found: Door, agent: str | None, since: str | None) -> list[str]:
    """Ids of decisions in event-time order. `since`: an event time, or so long ago. Raises Misused, NotFound, Unavailable."""
    if found.running:
        asked = {name: value for name, value in (("agent", agent), ("since", since)) if value is not None}
        return list(found.ask("GET", "/v1/cases", params=asked)["decisions"])
    from headwater.flows.dead_routes import moment

    with found.lineage_file() as source:
        return decided_since(source, agent=agent, since=moment(since, time.time_ns() // 1000))


def cases(found: Door, ids: Sequence[str], lost: Callable[[str, HeadwaterError], None] | None = None) -> Generator[Case, None, None]:
    """The cases of decisions, one after another; `lost` is told of those that are none any more, such as pruned ones.

    To be closed: it holds the file of a stopped headwater. Raises Unavailable, and without `lost` NotFound, Misused, Gone.
    """
    with nullcontext() if found.running else found.lineage_file() as source:
        for id in ids:
            try:
                if source is not None:
                    case = case_of(source, id)
                else:
                    case = msgspec.convert(found.ask("GET", f"/v1/decisions/{step_of(id)}/case"), Case)
            except (NotFound, Misused, Gone) as error:
                if lost is None:
                    raise
                lost(id, error)
                continue
            yield case


def read_cases(lines: Iterator[bytes], name: str) -> Iterator[Case]:
    """Cases as `write_cases` wrote them. Raises Misused, naming the line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield msgspec.json.decode(line, type=Case)
            except msgspec.DecodeError as error:
                told = f"{name}, line {number} is no case: {error}; write cases with: headwater replay DECISION --export {name}"
                raise Misused(told) from None


def line_of(case: Case) -> bytes:
    """A case as one line of JSON."""
    return msgspec.json.encode(case, enc_hook=str) + b"\n"


class Today:
    """What is known now, searched over HTTP or in a stopped index: not as of the activation's event time, and waiting for nothing."""

    def __init__(self, ask: Callable[[dict[str, Any]], Any]) -> None:
        self._ask = ask

    def search(
        self, text: str, *, limit: int, where: Mapping[str, Any] | None, after: Sequence[Position], wait_s: float, as_of: int | None
    ) -> Results:
        answer = self._ask({"text": text, "limit": limit, "where": dict(where or {})})
        return Results([_hit(found) for found in answer["results"]], answer["as_of"], answer["staleness_ms"] or 0.0, answer["too_new"])


@contextmanager
def today(found: Door, settings: Settings, app: App) -> Iterator[Today]:
    """A search of what is known now: of the headwater that runs, else of the index it left. Raises NotFound, Misused."""
    if found.running:
        yield Today(lambda question: found.ask("POST", "/v1/search", json=question))
        return
    from headwater.flows.stopped import stopped_index

    with stopped_index(settings, found.home, app) as ask:
        yield Today(ask)


_UNKNOWN = {"n": 0, "section": "", "score": 0.0, "dense": 0.0, "position": ""}


def _hit(found: Mapping[str, Any]) -> Hit:
    known = {name: value for name, value in found.items() if value is not None}
    return msgspec.convert({**_UNKNOWN, **known}, Hit, strict=False)
