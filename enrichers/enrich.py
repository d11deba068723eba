"""enrich: received events → the same events with what the topic's enrichers know about them."""

from collections.abc import Sequence
from typing import Any

from headwater.lineage.decode import Received
from headwater.lineage.errors import EnricherFailed, EnricherUnavailable, HeadwaterError, retryable
from headwater.lineage.topic import Topic


def enrich(topic: Topic[Any], received: Sequence[Received]) -> tuple[list[Received], list[tuple[Received, HeadwaterError]]]:
    """Fill `facts` (name → what the enricher answered).

    Whatever an enricher raises fails that event alone: EnricherUnavailable if the same call may go through later, else EnricherFailed.
    """
    if not topic.enrich:
        return list(received), []
    enriched: list[Received] = []
    failures: list[tuple[Received, HeadwaterError]] = []
    for one in received:
        try:
            if not one.is_mark:
                one.facts = _facts(topic, one)
        except HeadwaterError as error:
            failures.append((one, error))
        else:
            enriched.append(one)
    return enriched, failures


def _facts(topic: Topic[Any], received: Received) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name, enricher in topic.enrich.items():
        try:
            facts[name] = enricher.facts(received.model, received.event.time)
        except Exception as error:
            kind = EnricherUnavailable if retryable(error) else EnricherFailed
            raise kind(
                f"enricher {name!r} of topic {topic.name} failed on event {received.event.id}: {type(error).__name__}: {error}",
                enricher=name, event=received.event.id,
            ) from error  # fmt: skip
    return facts
