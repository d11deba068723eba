"""What a model may do with a running application beyond reading its index: ask why, publish events, read decisions and topics, begin a task."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pydantic
from rich.console import Console

import headwater.enrichers.reading as reading
from headwater.enrichers.bounded import bounded
from headwater.enrichers.offer import Argument, Listed, Offer, Prompt, Shelf, Told, Tool
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.web import Search
from headwater.flows.desk import Desk
from headwater.lineage.duration import format_time, from_datetime
from headwater.lineage.errors import NotFound
from headwater.lineage.event import STRUCTURED
from headwater.lineage.queries import decisions, documents
from headwater.lineage.show import why_tree
from headwater.lineage.topic import INTERNAL, Topic
from headwater.lineage.verify import Source
from headwater.lineage.why import Why, why

ORIGIN = "mcp"
"""The origin of what a model publishes."""
SOURCE = "headwater/mcp"
WIDTH = 160
EVIDENCE = 20
"""Texts of a decision's evidence that are told in full."""

ABOUT = (
    "headwater keeps an index of documents up to date from event streams, watches rules over the same streams, and lets agents decide; every step is "
    "recorded. Use `search` for what is known now, and say how fresh it is; `get_document` for one thing whole; `why` for what happened to an event, "
    "or why an agent decided as it did; `publish_event` to tell it something new, then `search` with `after=[token]` to find it for certain."
)
WHY = (
    "What happened to a thing, and why: the path from events to documents, activations, decisions and effects, in both directions. Of a decision: what "
    "woke it, the texts it saw, the options it weighed, what it did. Takes any id (event, document, chunk, activation, decision, effect, dead letter), "
    "a freshness token, or topic/partition@offset; six characters of an id's beginning will do."
)
PUBLISH = (
    "Publish one event to a topic of the application. It is checked against the topic's model first; nothing is published unless it fits. The answer's "
    "`token` is a freshness token: `search` with `after=[token]` includes the event. Under one `id` an event counts once, so a call that broke off "
    "may be repeated with the same id."
)


class Path(pydantic.BaseModel):
    """Of what."""

    model_config = pydantic.ConfigDict(extra="forbid")

    id: str = pydantic.Field(description="an id of any kind, a freshness token, or topic/partition@offset")


class NewEvent(pydantic.BaseModel):
    """An event to publish."""

    model_config = pydantic.ConfigDict(extra="forbid")

    topic: str
    data: dict[str, Any] = pydantic.Field(description="what happened, as the topic's model demands (read headwater://topics/NAME)")
    id: str | None = pydantic.Field(None, min_length=1, max_length=200, description="the event's id, if you may call again; else one is made")
    time: str | None = pydantic.Field(None, description="when it happened (RFC 3339), if not now")


def offer(
    retriever: Callable[[], Retriever], store: Callable[[], Source], desk: Desk, topics: Mapping[str, Topic[Any]], clock: Callable[[], int]
) -> Offer:
    """Everything that an application offers a model. `topics` are all it declares; `clock` gives µs."""
    domain = {name: topic for name, topic in sorted(topics.items()) if not name.startswith(INTERNAL)}
    path = {
        "kind": {"type": "string", "description": "what the id is of"},
        **{name: {"type": "array", "items": {"type": "object"}} for name in ("events", "documents", "activations", "decisions")},
    }
    accepted = {"id": {"type": "string"}, "topic": {"type": "string"}, "token": {"type": "string", "description": "for `after` of a search"}}
    named = {"topic": f"the topic: {', '.join(domain) or 'the application declares none'}"}

    async def publish(asked: NewEvent, request: Any) -> Told:
        return await published(desk, asked, request, clock())

    return Offer(
        ABOUT,
        tools=[
            *reading.tools(retriever),
            Tool("why", "Why did it happen", WHY, Path, {"id": {"type": "string"}, **path}, lambda asked, _: explained(store(), asked.id)),
            Tool("publish_event", "Publish an event", PUBLISH, NewEvent, accepted, publish, named, reads=False),
        ],
        shelves=[
            _topics(domain),
            reading.shelf(retriever, lambda skip, many: _documents(store(), skip, many)),
            _decisions(store),
        ],
        prompts=[_explain(store), _brief(retriever)],
    )


def explained(store: Source, id: str, kind: str | None = None) -> Told:
    """The path of an id, which must be of this kind. Raises NotFound, Misused."""
    found = why(store, id)
    if kind is not None and found.kind != kind:
        raise NotFound(f"{id} is a {found.kind}, no {kind}; the tool why takes any id")
    data, notes = bounded(msgspec.json.decode(msgspec.json.encode(found, enc_hook=str)))
    return Told({**data, "notes": notes}, "\n\n".join([_tree(found), *_evidence(found), *notes]))


async def published(desk: Desk, asked: NewEvent, request: Any, now: int) -> Told:
    """Publish by the HTTP door's desk: the same limits, the same checks. Raises what the gateway raises, Limited, Unavailable."""
    async with desk.visit(request) as visit:
        gateway = desk.gateway
        topic = gateway.topic(asked.topic)
        stated = {
            "specversion": "1.0", "id": asked.id or gateway.new_id(), "source": SOURCE, "type": topic.name,
            "time": asked.time or format_time(now), "datacontenttype": "application/json", "data": asked.data,
        }  # fmt: skip
        events = gateway.events(topic, json.dumps(stated, ensure_ascii=False).encode(), STRUCTURED)
        [accepted] = await visit.publish(topic, events, ORIGIN)
    told = {"id": accepted.event.id, "topic": topic.name, "token": str(accepted.position)}
    text = f"Published as {told['id']} at {accepted.position.short}. To find it for certain, search with after=[\"{told['token']}\"]."
    return Told({**told, "notes": []}, text)


def _tree(found: Why) -> str:
    page = io.StringIO()
    Console(file=page, width=WIDTH, color_system=None, legacy_windows=False).print(why_tree(found))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def _evidence(found: Why) -> list[str]:
    """Rationales, and the texts that decisions saw, whole."""
    lines = [f"{one.agent} says: {one.rationale}" for one in found.decisions if one.rationale]
    seen = {chunk.id: chunk for one in found.decisions for retrieval in one.retrievals for chunk in retrieval.results}
    ordered = sorted(seen.values(), key=lambda chunk: not chunk.used)
    told = [f"{chunk.document}{' (named as evidence)' if chunk.used else ''}: {chunk.text}" for chunk in ordered[:EVIDENCE]]
    return bounded([*lines, *(["What it saw:"] if told else []), *told]).value  # type: ignore[no-any-return]


# ---- what lies to be read


def _topics(domain: Mapping[str, Topic[Any]]) -> Shelf:
    def read(name: str) -> Told:
        if name not in domain:
            raise NotFound(f"no topic {name!r}; the application declares {', '.join(domain) or 'none'}")
        topic = domain[name]
        data = {"name": name, "key": topic.key, "partitions": topic.partitions, "schema": topic.model.model_json_schema()}
        text = f"Topic {name}: events of {topic.model.__name__}, keyed by {topic.key or 'nothing'}. The data of an event, as JSON Schema:\n"
        return Told(data, text + json.dumps(data["schema"], indent=1))

    def listed(skip: int, many: int) -> list[Listed]:
        names = [*domain][skip : skip + many]
        return [Listed(name, f"topic {name}", f"what an event of {name} ({domain[name].model.__name__}) looks like") for name in names]

    return Shelf("topics", "Topics", "A topic of the application and the JSON Schema of its events, for publish_event", read, listed)


def _documents(store: Source, skip: int, many: int) -> list[Listed]:
    rows = documents(store, limit=many, skip=skip).to_dicts()
    return [Listed(row["document"], row["document"], f"{row['outcome']}, as of {_when(row['time'])}") for row in rows]


def _decisions(store: Callable[[], Source]) -> Shelf:
    def listed(skip: int, many: int) -> list[Listed]:
        rows = decisions(store(), limit=many, skip=skip).to_dicts()
        return [
            Listed(row["id"], f"{row['agent']}: {row['choice'] or row['outcome']}"[:200],
                   f"{row['agent']}@{row['version']} on {row['rule']} of {row['key']}, {row['outcome']}, {_when(row['time'])}"[:500])
            for row in rows
        ]  # fmt: skip

    about = "A decision of an agent: what woke it, the texts it saw, the options it weighed, what it did"
    return Shelf("decisions", "Decisions", about, lambda id: explained(store(), id, "decision"), listed)


def _when(time: Any) -> str:
    return format_time(from_datetime(time)) if time is not None else "a time not known"


# ---- tasks


def _explain(store: Callable[[], Source]) -> Prompt:
    def write(given: Mapping[str, str]) -> Sequence[str]:
        told = explained(store(), given["id"])
        return [
            f"Explain to someone who does not know the system what headwater did and why, for {told.data['kind']} {told.data['id']}. Say what "
            "happened first, what was seen, which options were weighed and how sure it was, and what was done. Keep to the record below; "
            "quote the texts that mattered; where the record does not say, say so. The tool `why` follows any id in it further.",
            told.text,
        ]

    about = "Explain a decision (or any other id) from the record of what happened"
    return Prompt("explain_decision", "Explain a decision", about, [Argument("id", "of the decision, or of anything that `why` knows")], write)


def _brief(retriever: Callable[[], Retriever]) -> Prompt:
    def write(given: Mapping[str, str]) -> Sequence[str]:
        stale = given.get("max_staleness", "").strip() or None
        told = reading.search(retriever(), Search(text=given["about"], max_staleness=stale))
        return [
            f"Write a short briefing about: {given['about']}\nUse the search results below, and `search` and `get_document` for what is missing. "
            "Name the document behind every statement, put the newest first, say where sources disagree, and end with how fresh the index was.",
            told.text,
        ]

    arguments = [
        Argument("about", "a topic, or a document's id"),
        Argument("max_staleness", 'refuse to brief from an index further behind than this, such as "2s"', required=False),
    ]
    return Prompt("brief_me", "Brief me", "A short briefing on a topic or a document, from the live index, with its sources", arguments, write)
