"""What a model may read of the index: the tools `search` and `get_document`, and documents by address."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pydantic

from headwater.enrichers.bounded import bounded
from headwater.enrichers.offer import Listed, Schema, Shelf, Told, Tool
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.web import Search, answer
from headwater.lineage.duration import duration, format_time
from headwater.lineage.errors import Misused
from headwater.lineage.event import Position

LONGEST_WAIT = "30s"
"""Clients give a tool about a minute."""

SEARCH = (
    "Search the live index by meaning and by words. The index follows event streams; every answer says how far it had come (`as_of`) and "
    "how long before the search it was surely complete (`staleness_ms`; null: not known). To be sure that an event you published is "
    "included, give its token as `after`. To refuse old knowledge, give `max_staleness`. Cite results by their `document`."
)
DOCUMENT = (
    "Read one document whole: its current text, its fields, and the versions kept before it, newest first, each with the event it came "
    "from. Ids have the form TYPE/ID, as `search` shows them."
)
ABOUT: Mapping[str, str] = {
    "text": "what to look for, in plain words",
    "limit": "at most this many results; 5 to 20 is sensible",
    "where": 'only documents with these fields: {"field": value} or {"field": [any, of, these]}',
    "types": "only documents of these types; empty: all",
    "after": "freshness tokens, as publish_event gives them: the answer includes these events, or is refused",
    "wait": f'how long to wait for `after` and `max_staleness`, such as "5s"; at most {LONGEST_WAIT}',
    "max_staleness": 'refuse an answer from an index further behind than this, such as "2s"',
    "as_of": "search what was known at this instant (RFC 3339), such as 2013-02-08T11:02:00Z",
    "partial": "with `as_of`: answer even if documents have let go of their version of that time; `too_new` counts them",
    "mode": '"hybrid": by meaning and by words; "dense": by meaning alone; "sparse": by words alone',
    "recency": 'half-life such as "6h": a chunk so much older counts half; left out: age does not matter',
    "rerank": "whether the application's reranker has the last word; left out: if there is one",
    "group_by": '"document": the best chunks of each document side by side',
    "per_document": "with `group_by`: so many chunks of each document",
    "neighbours": "so many chunks before and after each result come along",
    "id": "the document's id, TYPE/ID",
}
FRESHNESS: dict[str, Schema] = {
    "as_of": {"type": "object", "description": "topic/partition → every event below this offset is settled"},
    "broker": {"type": "string", "description": "whose offsets these are"},
    "staleness_ms": {"type": ["number", "null"], "description": "how long before the answer it was surely complete; null: not known"},
}


class Wanted(pydantic.BaseModel):
    """Which document, and how fresh. `after`, `wait`, `max_staleness` as in a search."""

    model_config = pydantic.ConfigDict(extra="forbid")

    id: str
    after: list[str] = []
    wait: str = "5s"
    max_staleness: str | None = None


def tools(retriever: Callable[[], Retriever]) -> list[Tool]:
    """`search` takes whatever options the HTTP search takes."""
    found: dict[str, Schema] = {"results": {"type": "array", "items": {"type": "object"}, "description": "chunks of documents, best first"}}
    kept: dict[str, Schema] = {
        "id": {"type": "string"}, "type": {"type": "string"}, "deleted": {"type": "boolean"},
        "versions": {"type": "array", "items": {"type": "object"}, "description": "newest first"},
    }  # fmt: skip
    return [
        Tool("search", "Search the index", SEARCH, Search, found | FRESHNESS, lambda asked, _: search(retriever(), asked), ABOUT),
        Tool("get_document", "Read a document", DOCUMENT, Wanted, kept | FRESHNESS, lambda asked, _: document(retriever(), asked), ABOUT),
    ]


def shelf(retriever: Callable[[], Retriever], listed: Callable[[int, int], Sequence[Listed]]) -> Shelf:
    """Documents at `headwater://documents/TYPE/ID`; `listed` names the newest."""
    about = "A document of the index with its kept versions; ids have the form TYPE/ID, as search results show them"
    return Shelf("documents", "Documents", about, lambda id: document(retriever(), Wanted(id=id)), listed)


def search(retriever: Retriever, asked: Search) -> Told:
    """Raises what `web.answer` raises."""
    _patient(asked.wait)
    data, notes = bounded(msgspec.json.decode(msgspec.json.encode(answer(retriever, asked))))
    results = data["results"]
    head = f"{len(results)} results, best first." if results else "Nothing found: try other words, or fewer conditions."
    lines = [f"{head} {freshness(data)}", *notes, *(_result(number, one) for number, one in enumerate(results, 1))]
    if data.get("retrying"):
        lines.append(f"Not in the answer, for they failed and are tried again: {', '.join(data['retrying'])}.")
    if data.get("too_new"):
        lines.append(f"{data['too_new']} documents were left out: their version of that time is no longer kept.")
    return Told({**data, "notes": notes}, "\n\n".join(lines))


def document(retriever: Retriever, asked: Wanted) -> Told:
    """Raises NotFound, and what Progress.wait raises."""
    _patient(asked.wait)
    progress = retriever.progress
    after = [Position.parse(token) for token in asked.after]
    progress.wait(after, duration(asked.wait) / 1e6, None if asked.max_staleness is None else duration(asked.max_staleness))
    staleness = progress.staleness_ms()
    fresh = {"as_of": progress.as_of(), "broker": progress.broker, "staleness_ms": None if math.isinf(staleness) else staleness}
    found = msgspec.to_builtins(retriever.document(asked.id))
    data, notes = bounded({**found, **fresh}, longest=20_000)
    return Told({**data, "notes": notes}, "\n\n".join([_document(data), *notes, freshness(data)]))


def freshness(data: Mapping[str, Any]) -> str:
    """How fresh an answer is, in a sentence."""
    staleness = data["staleness_ms"]
    stale = "how stale it was is not known" if staleness is None else f"it was surely complete {staleness:.0f} ms before"
    places = [f"{place}@{offset}" for place, offset in data["as_of"].items()]
    more = f" and {len(places) - 8} partitions more" if len(places) > 8 else ""
    return f"The index had settled everything before {', '.join(places[:8]) or 'nothing yet'}{more}; {stale}."


def _patient(wait: str) -> None:
    if duration(wait) > duration(LONGEST_WAIT):
        raise Misused(f"wait={wait!r} is more than {LONGEST_WAIT}: wait less, and call again")


def _result(number: int, one: Mapping[str, Any]) -> str:
    told = [one.get("type", ""), format_time(one["time"]) if isinstance(one.get("time"), int) else "", _score(one)]
    lines = [f"[{number}] {one.get('document', '')}   {' · '.join(part for part in told if part)}"]
    if one.get("section"):
        lines.append(f"section: {one['section']}")
    around = one.get("neighbours") or []
    lines += [str(chunk["text"]) for chunk in around if chunk["n"] < one["n"]]
    lines.append(str(one.get("text", "")))
    lines += [str(chunk["text"]) for chunk in around if chunk["n"] > one["n"]]
    if one.get("fields"):
        lines.append("fields: " + ", ".join(f"{name}={value}" for name, value in one["fields"].items()))
    if one.get("position"):
        lines.append(f"from the event {one.get('event', '')} at {_place(one['position'])}")
    return "\n".join(lines)


def _score(one: Mapping[str, Any]) -> str:
    return f"score {one['score']:.4f}" if isinstance(one.get("score"), float) else ""


def _place(position: str) -> str:
    return Position.parse(position).short if position.count("/") == 3 else position


def _document(data: Mapping[str, Any]) -> str:
    lines = [f"{data['id']}   {data['type']} · {data.get('time', '')}"]
    if data["deleted"]:
        lines.append("It is deleted.")
    versions = data["versions"]
    if versions:
        newest = versions[0]
        lines += [chunk["text"] for chunk in newest.get("chunks", ())]
        if newest.get("fields"):
            lines.append("fields: " + ", ".join(f"{name}={value}" for name, value in newest["fields"].items()))
    if versions[1:]:
        lines.append("Before that:")
        lines += [f"- {each.get('time', '')}: {_first(each)}" for each in versions[1:]]
    return "\n".join(lines)


def _first(version: Mapping[str, Any]) -> str:
    if version.get("deleted"):
        return "deleted"
    text = " ".join(chunk["text"] for chunk in version.get("chunks", ()))
    return text if len(text) <= 300 else f"{text[:300]}…"
