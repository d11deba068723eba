"""A home whose index is made anew by processes that are killed: one is forked for each life, with the broker's address and a plan.

Started as `rebuilder.py ADDRESS HOME TOPIC POINT …`: the first life indexes the topic, each of the next rebuilds the index by another
function and kills itself with SIGKILL at its point, the last is left alone. Then what the index holds is printed as JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from headwater import App, Delete, Document, Topic
from headwater.enrichers.document import DocumentType
from headwater.enrichers.generations import EdgeGenerations
from headwater.enrichers.index import Indexer
from headwater.enrichers.testing import HashEmbedder
from headwater.flows import rebuild, reread
from headwater.flows.kafka import Kafka
from headwater.flows.runtime import Runtime
from headwater.flows.settings import Settings

POINTS = ("read", "put", "flip", "reread", "supersede", "kept", "turned")
"""Steps of the indexer that fills; how far it is was kept; the pointer names the new index, and nothing else happened yet."""


class Note(msgspec.Struct):
    id: str
    version: int
    text: str | None = None


def plain(note: Note, facts: Any) -> Any:
    return Delete(note.id) if note.text is None else Document(note.id, note.text)


def loud(note: Note, facts: Any) -> Any:
    return Delete(note.id) if note.text is None else Document(note.id, f"{note.text} aloud")


def opened(address: str, home: str, topic: str, function: Callable[..., Any]) -> Runtime:
    kind = DocumentType("note", Topic(topic, Note, key="id", partitions=2), function, "version")
    app = App("notes", documents=[kind], root=Path(home))
    run = Runtime(app, Settings(home=Path(home)), Kafka({"bootstrap.servers": address}), embedder=HashEmbedder(16))
    run.prepare()
    return run


def first(address: str, home: str, topic: str) -> None:
    """What the flow `index` does."""
    run = opened(address, home, topic, plain)
    for partition in range(2):
        for piece in reread.reread(run, topic, partition, 0):
            run.indexing.index(piece.received)
            run.progress.settle(topic, partition, piece.next)
    run.save_progress()
    run.close()


def again(address: str, home: str, topic: str, point: str) -> None:
    """Rebuild; killed when `point` is passed."""

    def passing(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    steps, turn = Indexer.steps, EdgeGenerations.turn

    def stepping(self: Any, received: Any) -> Any:
        running = steps(self, received)
        while True:
            try:
                name = next(running)
            except StopIteration as end:
                return end.value
            passing(name)
            yield name

    def turned(self: Any, size: int) -> None:
        turn(self, size)
        passing("turned")

    Indexer.steps, EdgeGenerations.turn = stepping, turned  # type: ignore[method-assign,assignment]
    run = opened(address, home, topic, loud)
    for step in run.rebuild.steps():
        if step.done > 15:  # some was read, and that it was is kept
            passing("kept")
    run.close()


def printed(address: str, home: str, topic: str) -> None:
    """Everything the index holds: heads, and points as they lie."""
    run = opened(address, home, topic, loud)
    heads, _ = run.index.heads_from(None, 10_000)
    states, _ = run.index.states_from(None, 10_000)
    found = {
        "heads": sorted((head.document, head.version, head.event, repr(head.entries), repr(head.hashes)) for head in heads),
        "points": sorted((state.id, state.point.text, state.live) for state in states),
        "changes": run.rebuild.plan().changes,
        "begun": run.generations.begun(),
    }
    print(json.dumps(found), flush=True)
    run.close()


def life(live: Callable[..., None], *given: str) -> int:
    """One process; gives what it ended with."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        live(*given)
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    rebuild.PIECE = reread.PIECE = 10  # many steps of few events
    place, points = sys.argv[1:4], sys.argv[4:]
    assert life(first, *place) == 0
    for point in points:
        assert life(again, *place, point) == -signal.SIGKILL, point
    assert life(again, *place, "") == 0
    assert life(printed, *place) == 0
