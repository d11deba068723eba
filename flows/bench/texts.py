"""Documents for the benchmarks: English of mixed length, no two alike, and the same on every run."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headwater.enrichers.document import Document, document
from headwater.lineage.decode import Received
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic

_WHAT = ("The pump", "A conveyor", "The cooling tower", "The night shift", "A courier", "The control room", "The northern gate")
_DID = ("reported", "repeated", "measured", "expected", "confirmed", "ruled out", "could not explain")
_THAT = ("a slow leak at the second valve", "twenty pallets without a label", "a rise of three degrees within the hour",
         "that the spare part arrives on Tuesday", "an empty tank", "more traffic than the road can carry", "a false alarm")  # fmt: skip
_THEN = ("and asked for a second look", "so the line was stopped", "before anyone had written it down", "while the inspector was on site",
         "as the handbook demands", "and nobody disagreed", "which the morning meeting took up")  # fmt: skip


class Note(msgspec.Struct, frozen=True):
    """What somebody wrote about one thing."""

    id: str
    text: str


NOTES: Topic[Note] = Topic("bench-notes", Note, key="id", partitions=2)


@document(NOTES)
def note(said: Note, facts: Mapping[str, Any]) -> Document:
    """The note as it stands."""
    return Document(said.id, said.text, {"hall": len(said.id)})


def text(number: int, longest: int = 12) -> str:
    """One to `longest` sentences of some fourteen words each; its number is in the first."""
    pick = random.Random(number)  # noqa: S311  (a seed, not a secret)
    sentences = [" ".join(pick.choice(part) for part in (_WHAT, _DID, _THAT, _THEN)) for _ in range(pick.randint(1, longest))]
    return f"Note {number}: {'. '.join(sentences)}."


def received(texts: Sequence[str], life: int, now: int) -> list[Received]:
    """Events that say these texts, as the flow would receive them in this life: new ids, times and offsets in each."""
    found = []
    for number, words in enumerate(texts):
        said = Note(f"note-{number}", words)
        event = Event(id=f"event-{life}-{number}", source="bench", type=NOTES.name, time=now + number, data=NOTES.encode(said))
        found.append(Received(Position("bench", NOTES.name, 0, life * len(texts) + number), event, said, now))
    return found
