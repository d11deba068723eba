"""What a model may read of an application by address: its topics, documents, decisions."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import headwater.enrichers.reading as reading
from headwater.enrichers.offer import Listed, Shelf, Told
from headwater.enrichers.retrieve import Retriever
from headwater.flows.explained import explained
from headwater.lineage.duration import format_time, from_datetime
from headwater.lineage.errors import NotFound
from headwater.lineage.queries import decisions, documents
from headwater.lineage.topic import Topic
from headwater.lineage.verify import Source


def topics(domain: Mapping[str, Topic[Any]]) -> Shelf:
    """Topics at `headwater://topics/NAME`, each with the JSON Schema of its events."""

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


def indexed(retriever: Callable[[], Retriever], store: Callable[[], Source]) -> Shelf:
    """Documents at `headwater://documents/TYPE/ID`; listed are those that were last written."""

    def listed(skip: int, many: int) -> list[Listed]:
        rows = documents(store(), limit=many, skip=skip).to_dicts()
        return [Listed(row["document"], row["document"], f"{row['outcome']}, as of {_when(row['time'])}") for row in rows]

    return reading.shelf(retriever, listed)


def decided(store: Callable[[], Source]) -> Shelf:
    """Decisions at `headwater://decisions/ID`; listed are the newest."""

    def listed(skip: int, many: int) -> list[Listed]:
        return [_decision(row) for row in decisions(store(), limit=many, skip=skip).to_dicts()]

    about = "A decision of an agent: what woke it, the texts it saw, the options it weighed, what it did"
    return Shelf("decisions", "Decisions", about, lambda id: explained(store(), id, "decision"), listed)


def _decision(row: Mapping[str, Any]) -> Listed:
    title = f"{row['agent']}: {row['choice'] or row['outcome']}"
    about = f"{row['agent']}@{row['version']} on {row['rule']} of {row['key']}, {row['outcome']}, {_when(row['time'])}"
    return Listed(row["id"], title[:200], about[:500])


def _when(time: Any) -> str:
    return format_time(from_datetime(time)) if time is not None else "a time not known"
