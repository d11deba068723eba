"""compare: two decisions side by side, field by field."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import polars as pl

from headwater.lineage.duration import format_time
from headwater.lineage.errors import Misused
from headwater.lineage.seen import ActivationSeen, DecisionSeen
from headwater.lineage.verify import Source
from headwater.lineage.why import why

SCHEMA: dict[str, Any] = {"part": pl.String, "field": pl.String, "same": pl.Boolean, "a": pl.String, "b": pl.String}


def compare(source: Source, a: str, b: str) -> pl.DataFrame:
    """part, field, same, a, b: what two decisions have alike and in what they differ, from what woke them to what they did.

    A field that one of them lacks is null there. Ids, or their beginnings, as `why` takes them. Raises NotFound, Misused (no decision).
    """
    left, right = (dict(_fields(_decision(source, id))) for id in (a, b))
    rows = [(part, field, left.get((part, field)), right.get((part, field))) for part, field in _merged(list(left), list(right))]
    return pl.DataFrame([(part, field, one == other, one, other) for part, field, one, other in rows], schema=SCHEMA, orient="row")


def _decision(source: Source, id: str) -> DecisionSeen:
    found = why(source, id)
    if len(found.decisions) != 1 or found.kind not in ("decision", "effect", "review"):
        raise Misused(f"{id} is a {found.kind}, no decision; `headwater sql \"from decisions\"` lists their ids")
    return found.decisions[0]


def _merged(left: Sequence[tuple[str, str]], right: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of both, each part together, in the order in which a decision comes about."""
    every = list(dict.fromkeys([*left, *right]))
    parts = list(dict.fromkeys(part for part, _ in every))
    return sorted(every, key=lambda named: parts.index(named[0]))


def _fields(decision: DecisionSeen) -> Iterator[tuple[tuple[str, str], str]]:
    """((part, field), its value as text) of everything that can be compared."""
    for field in ("agent", "version", "outcome"):
        yield ("decision", field), str(getattr(decision, field))
    yield ("decision", "choice"), decision.summary
    yield ("decision", "confidence"), f"{decision.confidence:.4f}"
    yield ("decision", "rationale"), decision.rationale
    yield ("decision", "attempts"), str(decision.attempts)
    yield ("decision", "error"), decision.error
    if decision.activation is not None:
        yield from _woken(decision.activation)
    yield from _seen(decision)
    for model in decision.models:
        for field in ("model", "prompt", "answer"):
            yield ("model", field), _text(model.get(field))
    for option in decision.options:
        yield ("options", option.name), f"{option.confidence:.4f}"
    for ruling in decision.rulings:
        asked = f"{ruling.get('action')} {ruling.get('resource')}"
        yield ("rulings", asked), f"{'allowed' if ruling.get('allowed') else 'refused'} by {ruling.get('policy')}"
    for effect in decision.effects:
        yield ("effects", f"{effect.effect} {effect.target} {effect.key}".strip()), effect.state
    for review in decision.reviews:
        yield ("review", str(review.get("reason", "asked"))), str(review.get("question", ""))
    for unit, amount in decision.cost.items():
        yield ("cost", unit), f"{amount:g}"


def _woken(activation: ActivationSeen) -> Iterator[tuple[tuple[str, str], str]]:
    for field in ("rule", "key", "phase"):
        yield ("woken by", field), str(getattr(activation, field))
    yield ("woken by", "time"), "" if activation.at is None else format_time(activation.at)
    yield ("woken by", "level"), f"{activation.count} of {activation.total}, {activation.value:g}"
    yield ("woken by", "events"), ", ".join(event.short for event in activation.events)


def _seen(decision: DecisionSeen) -> Iterator[tuple[tuple[str, str], str]]:
    """Each document that was shown is a field: its version, whether it counted, and what would have been chosen without it."""
    for number, retrieval in enumerate(decision.retrievals, 1):
        yield ("saw", f"query {number}"), retrieval.query
        for chunk in retrieval.results:
            where = f"{chunk.document} {chunk.section}".strip()
            without = f", without it {chunk.without.name} {chunk.without.confidence:.4f}" if chunk.without else ""
            yield ("saw", where), f"version {chunk.version}, score {chunk.score:.4f}{', used' if chunk.used else ''}{without}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value, order="sorted", enc_hook=str).decode()
