"""The application's topics as an AsyncAPI 3.1 document: what others may publish and read, with schemas, keys and headers.

`send` and `receive` are said from the application's side: it receives what its flows read and sends what its agents and flows write.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headwater.agents.activation import TYPE as ACTIVATION
from headwater.agents.activation import Activation
from headwater.agents.journal import Entry
from headwater.flows.app import App
from headwater.flows.kafka import group_of
from headwater.flows.prepare import domain
from headwater.flows.settings import Settings
from headwater.lineage.schema import DEFINITIONS, Schema, describe, rewritten, schema_of
from headwater.lineage.topic import ACTIVATIONS, DEAD, DECISIONS, REVIEWS, Topic

VERSION = "3.1.0"
BINDING = "0.5.0"
HEADERS = "CloudEvent"

_OURS = {
    ACTIVATIONS: ("Activation", f"A rule fired for a key; event types {ACTIVATION}opened, …updated, …closed."),
    DECISIONS: ("Decision", "The journal: `decided` for each decision, `done` once its effects went out; a list of several at once."),
    REVIEWS: ("Review", "A question to a person, about a decision that waits for the answer."),
    DEAD: ("DeadLetter", "What could not go on: key, value and headers as they came, and headers that say where from and why."),
}
"""Internal topics that others may read: their message's name and what it is."""


def asyncapi(
    app: App,
    address: str = "",
    *,
    version: str = "1.0.0",
    protocol: str = "plaintext",
    mechanism: str = "",
    registry: str = "",
    partitions: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The document of an application.

    address     `bootstrap.servers`, empty if no broker is known;  protocol, mechanism: librdkafka's `security.protocol`, `sasl.mechanism`
    registry    the schema registry's address
    partitions  topic → how many there are, where that is known
    """
    counts = {**app.partitions, **(partitions or {})}
    schemas: dict[str, Any] = {HEADERS: _headers()}
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    for name, topic in domain(app).items():
        payload = _placed(name, schema_of(topic.model), schemas)
        messages[name] = _message(topic.model.__name__, describe(topic.model), payload, _key(topic))
        channels[name] = _channel(name, describe(topic.model), topic.settings, counts[name])
    for name, (title, text) in _OURS.items():
        messages[name] = _message(title, text, _payload_of(name, schemas), {"type": "string"}, event=name in (ACTIVATIONS, REVIEWS))
        channels[name] = _channel(name, text, {}, counts[name])
    components: dict[str, Any] = {"schemas": schemas, "messages": messages}
    document = {
        "asyncapi": VERSION,
        "info": {"title": app.name, "version": version, "description": f"Topics of the headwater application {app.name}."},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": _operations(app),
        "components": components,
    }
    return {**document, **_servers(address, protocol, mechanism, registry, components)}


def describe_topics(app: App, settings: Settings, address: str, partitions: Mapping[str, int]) -> dict[str, Any]:
    """The document of an application run with these settings, against the broker at this address (empty: none is known)."""
    protocol = settings.kafka.get("security.protocol", "plaintext")
    mechanism = settings.kafka.get("sasl.mechanism", settings.kafka.get("sasl.mechanisms", ""))
    return asyncapi(app, address, protocol=protocol, mechanism=mechanism, registry=settings.registry_url, partitions=partitions)


def _key(topic: Topic[Any]) -> Schema:
    said = f"the text of the field {topic.key}" if topic.key is not None else "the event id"
    return {"type": "string", "description": f"It chooses the partition: {said}."}


def _message(title: str, text: str, payload: Schema, key: Schema, *, event: bool = True) -> dict[str, Any]:
    """`event`: it is a CloudEvent, and so has its headers."""
    described = {"description": text} if text else {}
    headers = {"$ref": f"#/components/schemas/{HEADERS}"}
    more = {"headers": headers, "correlationId": {"location": "$message.header#/ce_correlationid"}} if event else {}
    return {
        "name": title, "title": title, **described, "contentType": "application/json", "payload": payload, **more,
        "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}},
    }  # fmt: skip


def _channel(name: str, text: str, settings: Mapping[str, str], partitions: int) -> dict[str, Any]:
    kafka: dict[str, Any] = {"topic": name, "partitions": partitions, "bindingVersion": BINDING}
    if settings:
        kafka["topicConfiguration"] = {
            word: value.split(",") if word == "cleanup.policy" else int(value) for word, value in settings.items()
        }
    described = {"description": text} if text else {}
    return {"address": name, **described, "messages": {"event": {"$ref": f"#/components/messages/{name}"}}, "bindings": {"kafka": kafka}}


def _operations(app: App) -> dict[str, Any]:
    """Who reads and who writes: flows and agents by name."""
    readers: Iterable[tuple[str, str]] = [
        *(("index", name) for name in app.indexed if name in domain(app)),
        *(("detect", name) for name in app.watched),
        *(("tables", table.topic.name) for table in app.tables),
        *((f"decide/{agent.name}", ACTIVATIONS) for agent in app.agents),
    ]
    writers: Iterable[tuple[str, str]] = [
        *((agent.name, topic.name) for agent in app.agents for topic in agent.publishes),
        *((("detect", ACTIVATIONS),) if app.triggers else ()),
        *(("decide", name) for name in (DECISIONS, REVIEWS) if app.agents),
        *((flow, DEAD) for flow in ("index", "detect")),
    ]
    found = {}
    for flow, name in readers:
        group = {"kafka": {"groupId": {"type": "string", "const": group_of(app.name, flow)}, "bindingVersion": BINDING}}
        found[_named(f"{flow}.receives.{name}")] = {**_operation("receive", name, f"{flow} reads {name}"), "bindings": group}
    for who, name in writers:
        found[_named(f"{who}.sends.{name}")] = _operation("send", name, f"{who} writes {name}")
    return found


def _operation(action: str, topic: str, summary: str) -> dict[str, Any]:
    channel = f"#/channels/{topic}"
    return {"action": action, "summary": summary, "channel": {"$ref": channel}, "messages": [{"$ref": f"{channel}/messages/event"}]}


def _payload_of(name: str, schemas: dict[str, Any]) -> Schema:
    if name == ACTIVATIONS:
        return _placed(name, schema_of(Activation), schemas)
    if name == DECISIONS:
        return _placed(name, dict(msgspec.json.schema(Entry | list[Entry])), schemas)
    return {"type": "object"} if name == REVIEWS else {}


def _placed(topic: str, schema: Schema, schemas: dict[str, Any]) -> Schema:
    """The schema in the document: its definitions go to the components, under names no other topic has."""

    def change(each: Schema) -> Schema:
        found = dict(each)
        if "$ref" in found:
            name = found["$ref"].removeprefix(DEFINITIONS)
            found["$ref"] = f"#/components/schemas/{_named(f'{topic}.{name}')}"
        if isinstance(told := found.get("discriminator"), Mapping):  # OpenAPI's form; here it is the property's name
            found["discriminator"] = told["propertyName"]
        if "prefixItems" in found:  # the schemas are of draft 7
            rest = found.pop("items", True)
            found["items"] = found.pop("prefixItems")
            found["additionalItems"] = rest
        return found

    changed: Schema = rewritten(schema, change)
    for name, definition in changed.pop("$defs", {}).items():
        schemas[_named(f"{topic}.{name}")] = definition
    return changed


def _named(name: str) -> str:
    """A name as components and operations may have it."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _headers() -> Schema:
    """CloudEvents in binary content mode. A plain producer needs an id only; the rest then follows from topic and append time."""
    optional = ("subject", "dataschema", "traceparent", "causationid", "correlationid", "actor", "signature")
    text: Schema = {"type": "string"}
    return {
        "type": "object",
        "description": "CloudEvents 1.0, binary content mode.",
        "required": ["ce_id"],
        "properties": {
            "ce_specversion": {"const": "1.0"}, "ce_id": {**text, "minLength": 1}, "ce_source": text, "ce_type": text,
            "ce_time": {**text, "format": "date-time"}, "content-type": text, **{f"ce_{name}": text for name in optional},
        },
    }  # fmt: skip


_SASL = {"PLAIN": "plain", "SCRAM-SHA-256": "scramSha256", "SCRAM-SHA-512": "scramSha512", "GSSAPI": "gssapi", "OAUTHBEARER": "oauth2"}


def _servers(address: str, protocol: str, mechanism: str, registry: str, components: dict[str, Any]) -> dict[str, Any]:
    """The brokers by address, and how one proves who one is; who we are is not told."""
    hosts = [host.strip().rpartition("://")[2] for host in address.split(",") if host.strip()]
    if not hosts:
        return {}
    server: dict[str, Any] = {"protocol": "kafka-secure" if "ssl" in protocol.lower() else "kafka"}
    if registry:
        server["bindings"] = {"kafka": {"schemaRegistryUrl": registry, "bindingVersion": BINDING}}
    kind = _SASL.get(mechanism.upper() or "GSSAPI")
    if "sasl" in protocol.lower() and kind is not None and kind != "oauth2":
        components["securitySchemes"] = {"sasl": {"type": kind}}
        server["security"] = [{"$ref": "#/components/securitySchemes/sasl"}]
    return {"servers": {"kafka" if n == 0 else f"kafka-{n + 1}": {"host": host, **server} for n, host in enumerate(hosts)}}
