"""enrich: received events → the same events with what the topic's enrichers know about them, and where they know it from."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from headwater.lineage.decode import Received
from headwater.lineage.errors import EnricherFailed, EnricherUnavailable, HeadwaterError, retryable
from headwater.lineage.topic import Enricher, Topic


class Known(NamedTuple):
    """What an enricher knows about one event. `reads`: where from, as lineage keeps it (a file with its digest, positions, an address)."""

    facts: Any
    reads: Any = None


Answer: TypeAlias = Known | Exception


class Batching(Protocol):
    """An enricher that answers for many events at once, and says what it read for each."""

    def facts_of(self, received: Sequence[Received]) -> Sequence[Answer]:
        """One answer per event; an exception fails that event alone."""
        ...


def enrich(topic: Topic[Any], received: Sequence[Received]) -> tuple[list[Received], list[tuple[Received, HeadwaterError]]]:
    """Fill `facts` (name → what the enricher answered) and `reads` (name → where from).

    Whatever an enricher raises fails that event alone: EnricherUnavailable if the same call may go through later, else EnricherFailed.
    """
    if not topic.enrich:
        return list(received), []
    failed: dict[int, HeadwaterError] = {}
    known: dict[int, list[tuple[str, Known]]] = {number: [] for number, one in enumerate(received) if not one.is_mark}
    for name, enricher in topic.enrich.items():
        asked = [number for number in known if number not in failed]
        for number, answer in zip(asked, _answers(enricher, [received[number] for number in asked]), strict=True):
            if isinstance(answer, Exception):
                failed[number] = _failure(topic, name, received[number], answer)
            else:
                known[number].append((name, answer))
    for number, found in known.items():
        received[number].facts = {name: each.facts for name, each in found}
        received[number].reads = {name: each.reads for name, each in found if each.reads}
    return [one for number, one in enumerate(received) if number not in failed], [(received[n], failed[n]) for n in sorted(failed)]


def _answers(enricher: Enricher | Batching, received: Sequence[Received]) -> Sequence[Answer]:
    """What the enricher says of each event, whichever of the two forms it has. What a whole batch raises, each of its events failed of."""
    if not received:
        return []
    ask = getattr(enricher, "facts_of", None)
    if ask is None:
        return [_answer(enricher, one) for one in received]
    try:
        answers: Sequence[Answer] = ask(received)
    except Exception as error:
        return [error] * len(received)
    return answers


def _answer(enricher: Any, one: Received) -> Answer:
    try:
        return Known(enricher.facts(one.model, one.event.time), getattr(enricher, "reads", None))
    except Exception as error:
        return error


def _failure(topic: Topic[Any], name: str, one: Received, error: Exception) -> HeadwaterError:
    kind = EnricherUnavailable if retryable(error) else EnricherFailed
    told = kind(
        f"enricher {name!r} of topic {topic.name} failed on event {one.event.id}: {type(error).__name__}: {error}",
        enricher=name, event=one.event.id,
    )  # fmt: skip
    told.__cause__ = error
    return told
