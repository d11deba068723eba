"""What is remembered of topics, and what a start refuses because of it."""

import os
import uuid
from typing import Any, Literal

import msgspec
import pytest
import structlog
from pydantic import BaseModel

from headwater.enrichers.document import Document, DocumentType
from headwater.flows.app import App
from headwater.flows.catalogue import KEPT, Entry, admit, differing, first, remember, remembered
from headwater.flows.kafka import Kafka
from headwater.flows.prepare import prepare_topics
from headwater.flows.registry import Registry
from headwater.flows.sink import Outgoing, Writer
from headwater.lineage.errors import Misused
from headwater.lineage.topic import CATALOGUE, Topic

NOW = 1_700_000_000_000_000


class Reading(BaseModel):
    gauge: str
    state: Literal["ok", "broken"] = "ok"


class Wider(Reading):
    metres: float | None = None


class Required(Reading):
    metres: float


class Narrower(BaseModel):
    gauge: str
    state: Literal["ok"] = "ok"


class Other(BaseModel):
    gauge: str
    metres: str | None = None


def topic(model: type[Any] = Reading, name: str = "readings", **more: Any) -> Topic[Any]:
    return Topic(name, model, **{"key": "gauge", "partitions": 2, **more})


def entry(**more: Any) -> Entry:
    return first(topic(**more), "lake", 2, NOW)


def application(*topics: Topic[Any], name: str = "lake") -> App:
    return App(name, documents=[DocumentType(each.name, each, lambda model, facts: Document("d", "t")) for each in topics])


@pytest.fixture
def app_name() -> str:
    return f"lake-{uuid.uuid4().hex[:8]}"


def test_a_first_start_remembers_what_is_declared():
    """Key, partitions, schema; version 1."""
    found = admit(topic(), "lake", None, 0, NOW)
    assert (found.partitions, found.key, found.version, len(found.schemas)) == (2, "gauge", 1, 1)
    assert admit(topic(), "lake", found, 2, NOW + 1) == found


def test_a_compatible_model_is_added():
    """It becomes the next version; going back to a former one is no change."""
    wider = admit(topic(Wider), "lake", entry(), 2, NOW + 1)
    assert (wider.version, [each.at for each in wider.schemas]) == (2, [NOW, NOW + 1])
    assert admit(topic(), "lake", wider, 2, NOW + 2) == wider


@pytest.mark.parametrize(
    ("model", "told"),
    [(Required, "metres: is new and required"), (Narrower, "state: may no longer be 'broken'")],
)
def test_a_breaking_model_is_refused(model, told):
    """Topic, model, field and what to do are named."""
    with pytest.raises(
        Misused, match=f"topic readings: its model {model.__name__} no longer takes.*{told}.*headwater topics migrate readings"
    ):
        admit(topic(model), "lake", entry(), 2, NOW)


def test_a_model_must_take_every_form_that_lies_there():
    """Two compatible steps can break together: a field given up comes back as something else."""
    gone = admit(topic(Reading), "lake", entry(model=Wider), 2, NOW)
    assert gone.version == 2
    assert admit(topic(Other), "lake", entry(model=Reading), 2, NOW).version == 2
    with pytest.raises(Misused, match="metres: was a number, must be"):
        admit(topic(Other), "lake", gone, 2, NOW)


def test_a_key_that_changes_is_refused():
    """Events of one key would lie in two partitions."""
    with pytest.raises(Misused, match="its key was 'gauge', is the event id now"):
        admit(topic(key=None), "lake", entry(), 2, NOW)


def test_a_keyed_topic_that_grew_is_refused():
    """Until it is migrated; one without a key may grow, and that is remembered."""
    with pytest.raises(Misused, match=r"topic readings had 2 partitions and has 4.*headwater topics migrate readings"):
        admit(topic(), "lake", entry(), 4, NOW)
    assert admit(topic(key=None), "lake", entry(key=None), 4, NOW).partitions == 4


def test_another_number_than_declared_is_refused():
    """Of a keyed topic, with what to declare, or how to grow it."""
    with pytest.raises(
        Misused, match=r"has 2 partitions at the broker, the application declares 4: declare partitions=2, or .*--partitions 4"
    ):
        admit(topic(partitions=4), "lake", entry(), 2, NOW)
    with pytest.raises(Misused, match=r"declare partitions=5$"):
        admit(topic(partitions=4), "lake", None, 5, NOW)


def test_no_more_forms_than_bounded_are_remembered():
    """The one too many is refused, not forgotten."""
    known = entry()
    many = msgspec.structs.replace(known, schemas=tuple(replace_digest(known, n) for n in range(KEPT)))
    with pytest.raises(Misused, match=f"changed {KEPT} times"):
        admit(topic(Wider), "lake", many, 2, NOW)


def replace_digest(known: Entry, number: int) -> Any:
    return msgspec.structs.replace(known.schemas[0], digest=str(number))


def test_settings_differ_as_brokers_understand_them():
    """What a broker does not tell is its default; the order of policies says nothing."""
    assert differing(topic(compact=True).settings, {}) == {"cleanup.policy": ""}
    assert differing(topic(compact=True, retention="1d").settings, {"cleanup.policy": "delete,compact", "retention.ms": "86400000"}) == {}
    assert differing(topic(retention="1d").settings, {"retention.ms": "5"}) == {"retention.ms": "5"}
    assert differing(topic().settings, {"retention.ms": "5"}) == {}
    with pytest.raises(Misused, match="at least 1ms"):
        topic(retention="10us")


def test_what_is_remembered_is_read_back(kafka: Kafka, app_name, name):
    """Of each topic the last; of this application alone; what is no entry is passed over."""
    kafka.create({CATALOGUE: 1})
    older, newer = (first(topic(), app_name, count, NOW) for count in (2, 3))
    remember(kafka, [older, newer, first(topic(), f"{app_name}-2", 9, NOW)])
    Writer(kafka, "").write(
        [Outgoing(CATALOGUE, f"x/{app_name}".encode(), b"{", []), Outgoing(CATALOGUE, f"y/{app_name}".encode(), None, [])]
    )
    assert remembered(kafka, app_name) == {"readings": newer}


def test_remembering_waits_for_no_id(kafka: Kafka, app_name, monkeypatch):
    """What may come twice is sent without asking for a sender's id first, and acknowledged all the same: each first start waits for it."""
    asked, make = [], kafka.producer

    def producer(**more):
        asked.append(more)
        return make(**more)

    monkeypatch.setattr(kafka, "producer", producer)
    kafka.create({CATALOGUE: 1})
    remember(kafka, [first(topic(), app_name, 2, NOW)])
    assert asked == [{"enable_idempotence": False, "acks": "all", "max_in_flight": 1}]
    assert [*remembered(kafka, app_name)] == ["readings"]


def test_a_start_makes_topics_as_declared(kafka: Kafka, app_name, name):
    """Retention and compaction are the broker's from then on; what is there otherwise is told, not changed."""
    declared = topic(name=name, retention="7d", compact=True)
    assert prepare_topics(application(declared, name=app_name), kafka, NOW)[name] == 2
    there = kafka.settings([name])[name]
    assert (there["retention.ms"], set(there["cleanup.policy"].split(","))) == ("604800000", {"compact", "delete"})
    assert remembered(kafka, app_name)[name].partitions == 2
    with structlog.testing.capture_logs() as logs:
        prepare_topics(application(topic(name=name, retention="1d", compact=True), name=app_name), kafka, NOW)
    [told] = [line["event"] for line in logs if name in line["event"]]
    assert told == (
        f"topic {name}: retention.ms is 604800000 at the broker, the application declares 86400000; "
        f"it stays as it is until: headwater topics migrate {name}"
    )
    assert kafka.settings([name])[name]["retention.ms"] == "604800000"


def test_a_start_with_a_breaking_model_changes_nothing(kafka: Kafka, app_name, name):
    """All that is refused is told at once, and no topic is made, no entry written."""
    prepare_topics(application(topic(name=name), name=app_name), kafka, NOW)
    before = remembered(kafka, app_name)
    new = topic(name=f"{name}-new")
    with pytest.raises(Misused, match="metres: is new and required"):
        prepare_topics(application(topic(Required, name=name), new, name=app_name), kafka, NOW)
    assert kafka.partitions(new.name) == 0 and remembered(kafka, app_name) == before
    assert prepare_topics(application(topic(Wider, name=name), new, name=app_name), kafka, NOW)[new.name] == 2
    assert {each: found.version for each, found in remembered(kafka, app_name).items()} == {name: 2, new.name: 1}


def test_applications_do_not_hinder_each_other(kafka: Kafka, app_name, name):
    """Another application may see less of the same events."""
    prepare_topics(application(topic(Required, name=name), name=app_name), kafka, NOW)
    prepare_topics(application(topic(Reading, name=name), name=f"{app_name}-2"), kafka, NOW)
    prepare_topics(application(topic(Required, name=name), name=app_name), kafka, NOW)


def test_an_unkeyed_topic_is_read_as_it_is(kafka: Kafka, app_name, name):
    """More partitions than declared are adopted; a keyed one with as many is refused."""
    kafka.create({name: 3})
    assert prepare_topics(application(topic(name=name, key=None), name=app_name), kafka, NOW)[name] == 3
    with pytest.raises(Misused, match="has 3 partitions at the broker, the application declares 2"):
        prepare_topics(application(topic(name=name), name=f"{app_name}-2"), kafka, NOW)


class Growing(Kafka):
    """A broker that can grow topics: the embedded one cannot. It tells what it was asked."""

    def grow(self, topic: str, partitions: int) -> None:
        self.properties["grown"] = f"{topic} {partitions}"


def test_an_unkeyed_topic_with_fewer_partitions_is_grown(kafka: Kafka, name):
    """In place, for no order hangs on it; a broker that cannot says so."""
    kafka.create({name: 1})
    growing = Growing(kafka.properties)
    assert growing.create({name: 3}, loose=[name]) == {name: 3} and growing.properties["grown"] == f"{name} 3"
    if not os.environ.get("HEADWATER_TEST_KAFKA"):
        with pytest.raises(Misused, match=f"topic {name} could not be grown to 3 partitions"):
            kafka.create({name: 3}, loose=[name])


def test_a_registry_is_asked_before_anything_is_made(kafka: Kafka, app_name, name):
    """Its refusal leaves no topic behind; its consent comes before what is remembered."""

    class Refusing(Registry):
        def __init__(self) -> None:
            self.asked: list[str] = []

        def check(self, topics: Any) -> None:
            self.asked += [f"check {each.name}" for each in topics]
            if len(self.asked) == 1:
                raise Misused("no")

        def register(self, topics: Any) -> dict[str, int]:
            self.asked += [f"register {each.name}" for each in topics]
            return {}

    registry, app = Refusing(), application(topic(name=name), name=app_name)
    with pytest.raises(Misused, match=r"^no$"):
        prepare_topics(app, kafka, NOW, registry)
    assert kafka.partitions(name) == 0
    prepare_topics(app, kafka, NOW, registry)
    assert registry.asked == [f"check {name}", f"check {name}", f"register {name}"]


def test_our_own_topics_are_not_in_the_catalogue(kafka: Kafka, app_name, name):
    """They are made with their settings; their models are ours to keep."""
    counts = prepare_topics(application(topic(name=name), name=app_name), kafka, NOW, more={"headwater.further": 1})
    assert counts["headwater.further"] == kafka.partitions("headwater.further") == 1
    assert set(remembered(kafka, app_name)) == {name}
    assert kafka.settings([CATALOGUE])[CATALOGUE]["cleanup.policy"] == "compact"
