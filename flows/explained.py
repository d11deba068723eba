"""explained: the path of an id, told to a model whole: the tree that people see, and in full the texts behind it."""

import io

import msgspec
from rich.console import Console

from headwater.enrichers.bounded import bounded
from headwater.enrichers.offer import Told
from headwater.lineage.errors import NotFound
from headwater.lineage.seen import Why
from headwater.lineage.show import why_tree
from headwater.lineage.verify import Source
from headwater.lineage.why import why

WIDTH = 160
EVIDENCE = 20
"""Texts of a path's evidence that are told in full."""


def explained(store: Source, id: str, kind: str | None = None) -> Told:
    """The path of an id, which must be of this kind. Raises NotFound, Misused."""
    found = why(store, id)
    if kind is not None and found.kind != kind:
        raise NotFound(f"{id} is a {found.kind}, no {kind}; the tool why takes any id")
    data, notes = bounded(msgspec.json.decode(msgspec.json.encode(found, enc_hook=str)))
    texts, more = bounded([_tree(found), *_evidence(found)], longest=20_000)
    return Told({**data, "notes": notes}, "\n\n".join([*texts, *(more or notes)]))


def _tree(found: Why) -> str:
    page = io.StringIO()
    Console(file=page, width=WIDTH, color_system=None, legacy_windows=False).print(why_tree(found))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _evidence(found: Why) -> list[str]:
    """Rationales, and the texts that decisions saw, those that were named as evidence first."""
    reasons = [f"{one.agent} says: {one.rationale}" for one in found.decisions if one.rationale]
    seen = {chunk.id: chunk for one in found.decisions for retrieval in one.retrievals for chunk in retrieval.results}
    ordered = sorted(seen.values(), key=lambda chunk: not chunk.used)
    told = [f"{chunk.document}{' (named as evidence)' if chunk.used else ''}: {chunk.text}" for chunk in ordered[:EVIDENCE]]
    left = [f"and {len(ordered) - EVIDENCE} texts more"] if len(ordered) > EVIDENCE else []
    return [*reasons, *(["What it saw:"] if told else []), *told, *left]
