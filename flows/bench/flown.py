"""Real texts in number, with the vectors of the bundled model: New York's flights and weather of 2013 as their application tells them.

The model takes a quarter of an hour for 100,000 of them, so its vectors are kept between runs, each shard under a digest of its texts.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path

import numpy as np

from headwater.enrichers.document import Document
from headwater.enrichers.embed import Embedder
from headwater.enrichers.engine import Vector
from headwater.enrichers.enrich import enrich
from headwater.lineage.decode import Received
from headwater.lineage.event import Position

SHARD = 2_000


def documents(count: int) -> list[Document]:
    """The first so many documents of the year, as flights depart and hours pass; no two texts alike. Raises Misused without the data."""
    return list(islice(_told(), count))


def _told() -> Iterator[Document]:
    from headwater.flows.nyc.app import airport_hour, app, flight_status
    from headwater.flows.nyc.data import FIRST, FLIGHTS, LAST, events

    topics, tables, seen = app.topics, app.tables, set[str]()
    day = FIRST
    while day <= LAST:  # by days, for the events of the whole year are many
        for number, (name, event) in enumerate(events(day, day)):
            received = Received(Position("bench", name, 0, number), event, topics[name].decode(event.data), event.time)
            if name != FLIGHTS:
                for table in tables:
                    table.feed([received])
            elif event.type == "flight.due":
                continue
            [enriched], _ = enrich(topics[name], [received])
            said = (flight_status if name == FLIGHTS else airport_hour)(enriched.model, enriched.facts)
            if isinstance(said, Document) and said.text not in seen:
                seen.add(said.text)
                yield said
        day += timedelta(days=1)


def cache() -> Path:
    """Where vectors are kept between runs; may be removed at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater" / "bench"


def vectors(texts: Sequence[str], model: Embedder, folder: Path) -> Vector:
    """A row for each text, from the folder as far as they lie there. What the model makes is kept shard by shard."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_shard(texts[start : start + SHARD], model, folder) for start in range(0, len(texts), SHARD)]
    found: Vector = np.concatenate(rows) if rows else np.empty((0, model.size), dtype=np.float32)
    return found


def _shard(texts: Sequence[str], model: Embedder, folder: Path) -> Vector:
    digest = hashlib.sha256("\x1f".join((model.name, *texts)).encode()).hexdigest()[:32]
    path = folder / f"{digest}.npy"
    if path.is_file():
        kept: Vector = np.load(path)
        if kept.shape == (len(texts), model.size):
            return kept
    made = model.embed(texts)
    half_written = path.with_suffix(f".{os.getpid()}.npy")
    np.save(half_written, made)
    half_written.replace(path)
    return made
