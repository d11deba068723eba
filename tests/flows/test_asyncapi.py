"""The AsyncAPI document is one by the official JSON schema, and says what the topics are."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
import referencing
from pydantic import BaseModel, Field

from headwater.enrichers.document import Document, DocumentType
from headwater.flows.app import App, load
from headwater.flows.asyncapi import asyncapi
from headwater.lineage.topic import Topic

SPECIFICATION = json.loads((Path(__file__).parents[1] / "data" / "asyncapi-3.1.0.json").read_text())
OFFICIAL = jsonschema.Draft7Validator(SPECIFICATION, registry=referencing.Registry())  # an empty registry fetches nothing
APPLICATION = Path(__file__).parents[1] / "walk" / "application.py"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    """A dog.

    Its second paragraph is for those who read the code.
    """

    kind: Literal["dog"]
    discriminator: str = "a field may be called so"
    pair: tuple[int, str] = (1, "a")
    children: list["Dog"] = []


class Owned(BaseModel):
    animal: Annotated[Cat | Dog, Field(discriminator="kind")]


class Reading(msgspec.Struct):
    """One measurement."""

    gauge: str
    metres: float | None = None


def offences(document: Any) -> list[str]:
    return [f"{list(error.path)}: {error.message[:200]}" for error in OFFICIAL.iter_errors(document)]


def reading_app(**more: Any) -> App:
    readings = Topic("readings", Reading, key="gauge", partitions=3, retention="7d", compact=True)
    pets = Topic("pets.of-all_kinds", Owned, **more)
    return App("zoo", documents=[DocumentType(topic.name, topic, lambda model, facts: Document("d", "t")) for topic in (readings, pets)])


@pytest.mark.parametrize("app", [load(str(APPLICATION)), reading_app(), App("empty")], ids=lambda app: app.name)
def test_the_document_is_valid(app):
    """By the official schema, with and without a broker, secured or not."""
    assert offences(asyncapi(app)) == []
    for more in ({}, {"protocol": "sasl_ssl", "mechanism": "SCRAM-SHA-512", "registry": "http://registry:8081"}):
        document = asyncapi(app, "one:9092, SASL_SSL://two:9092", **more)
        assert offences(document) == []
        assert [server["host"] for server in document["servers"].values()] == ["one:9092", "two:9092"]


def test_the_official_schema_sees_mistakes():
    """What validates is not just anything."""
    document = asyncapi(reading_app())
    document["operations"]["index.receives.readings"]["action"] = "publish"
    document["channels"]["readings"]["bindings"]["kafka"]["partitions"] = 0
    assert len(offences(document)) >= 2


def test_every_reference_leads_somewhere():
    """Each `$ref` names something that the document holds; of two models of one name both are there."""
    document = asyncapi(reading_app())
    references = [value for name, value in walk(document) if name == "$ref"]
    assert len(references) > 20
    for reference in references:
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def walk(value: Any) -> Any:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def test_a_channel_says_what_the_broker_has():
    """Key, partitions (as they are, where that is known), compaction, retention; the model's docstring; CloudEvents headers."""
    document = asyncapi(reading_app(), partitions={"readings": 5})
    assert document["channels"]["readings"]["bindings"]["kafka"] == {
        "topic": "readings", "partitions": 5, "bindingVersion": "0.5.0",
        "topicConfiguration": {"cleanup.policy": ["compact", "delete"], "retention.ms": 604_800_000},
    }  # fmt: skip
    message = document["components"]["messages"]["readings"]
    assert message["description"] == "One measurement."
    assert message["bindings"]["kafka"]["key"]["description"].endswith("the field gauge.")
    assert message["headers"] == {"$ref": "#/components/schemas/CloudEvent"}
    assert document["components"]["schemas"]["readings.Reading"]["required"] == ["gauge"]
    dog = document["components"]["schemas"]["pets.of-all_kinds.Dog"]
    assert dog["properties"]["discriminator"]["default"] == "a field may be called so"
    assert dog["properties"]["pair"]["items"] == [{"type": "integer"}, {"type": "string"}]


def test_who_reads_and_who_writes():
    """Flows receive under their groups; agents and flows send; our own topics that others may read are there, others are not."""
    document = asyncapi(load(str(APPLICATION)))
    operations = document["operations"]
    assert {name for name, each in operations.items() if each["action"] == "receive"} == {
        "index.receives.readings", "detect.receives.readings", "decide_warn.receives.headwater.activations",
        "decide_log.receives.headwater.activations",
    }  # fmt: skip
    assert operations["index.receives.readings"]["bindings"]["kafka"]["groupId"]["const"] == "headwater-lake-index"
    assert {"warn.sends.alarms", "log.sends.notes", "detect.sends.headwater.activations", "decide.sends.headwater.reviews"} < set(
        operations
    )
    ours = {name for name in document["channels"] if name.startswith("headwater.")}
    assert ours == {"headwater.activations", "headwater.decisions", "headwater.reviews", "headwater.dead"}


def test_no_secret_is_told():
    """How one proves who one is, is said; who we are is not."""
    told = json.dumps(asyncapi(reading_app(), "host:9092", protocol="SASL_PLAINTEXT", mechanism="PLAIN"))
    assert '"type": "plain"' in told and "password" not in told
