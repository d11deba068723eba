"""The reference application's documents of two days, as they stood in the end, in an index of their own."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.embed import Embedder
from headwater.enrichers.enrich import enrich
from headwater.enrichers.index import Indexer
from headwater.enrichers.latest import Latest
from headwater.enrichers.lookup import Lookup
from headwater.flows.app import FILES_DOCUMENT, FILES_TOPIC
from headwater.flows.bench.bed import demand, now
from headwater.flows.bench.questions import Question, questions
from headwater.flows.files import file_events
from headwater.flows.nyc import app, data
from headwater.flows.walk import INDEX_BATCH
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

DAYS = date(2013, 2, 7), date(2013, 2, 8)
"""An ordinary day and the first of a blizzard: the same flights, of which half are cancelled on the second."""


class Corpus(NamedTuple):
    """An index that holds it, and the questions to it."""

    store: EdgeIndex
    questions: list[Question]


def corpus(folder: Path, embedder: Embedder, share: float = 1.0) -> Corpus:
    """Index the documents: minutes with the real model. `share` of the flights, for tests."""
    events = list(data.events(*DAYS))
    hours = [_received(app.weather, event, n) for n, (topic, event) in enumerate(events) if topic == data.WEATHER]
    last: dict[str, Received] = {}
    for n, (topic, event) in enumerate(events):
        if topic == data.FLIGHTS and event.type != "flight.due":
            last[str(event.subject)] = _received(app.flights, event, n)
    flights = list(last.values())[: max(200, int(share * len(last)))]
    files = [_received(FILES_TOPIC, event, n) for n, event in enumerate(file_events(app.app.files, app.app.root, (), now()))]
    ready = [*_enriched(hours, flights), *files]
    index = EdgeIndex(folder, embedder.size)
    indexer = Indexer(index, embedder, [app.flight_status, app.airport_hour, FILES_DOCUMENT], clock=now)
    for start in range(0, len(ready), INDEX_BATCH):
        demand(len(indexer.index(ready[start : start + INDEX_BATCH]).failures), 0, "documents that failed")
    tables = [_table("airlines", "carrier"), _table("airports", "faa"), _table("planes", "tailnum")]
    asked = questions([one.model for one in flights], [one.model for one in hours], *tables)
    return Corpus(index, asked)


def _enriched(hours: Sequence[Received], flights: Sequence[Received]) -> list[Received]:
    """With the facts the flow would know, from a look-up of this corpus alone."""
    latest = Latest(app.weather, on="origin", history="72h")
    latest.feed(hours)
    found: list[Received] = []
    for topic, received in ((app.weather, hours), (replace(app.flights, enrich={**app.flights.enrich, "weather": latest}), flights)):
        known, failures = enrich(topic, received)
        demand(len(failures), 0, "events that could not be enriched")
        found += known
    return found


def _received(topic: Topic[Any], event: Event, offset: int) -> Received:
    return Received(Position("bench", topic.name, 0, offset), event, topic.decode(event.data), event.time)


def _table(name: str, key: str) -> Any:
    return Lookup(data.csv(name), on=key, key=key).table().rows
