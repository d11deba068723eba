"""Events in by HTTP: every form, found by its token; what is malformed becomes a dead letter and the flow goes on."""

import json

import pytest

from headwater.flows.gateway import BATCH, NDJSON
from headwater.flows.sink import Outgoing
from headwater.lineage.event import JSON, STRUCTURED, Event, to_structured


def reading(gauge: str, n: int = 0, metres: float = 0.5) -> dict:
    return {"id": f"{gauge}-{n}", "gauge": gauge, "metres": metres}


def event(gauge: str, n: int) -> Event:
    return Event(
        id=f"ce-{gauge}-{n}", source="/test", type="reading", time=1_700_000_000_000_000 + n, data=json.dumps(reading(gauge, n)).encode()
    )


FORMS = {
    "one object": (JSON, lambda gauge: json.dumps(reading(gauge)).encode(), 1),
    "an array": (JSON, lambda gauge: json.dumps([reading(gauge, n) for n in range(3)]).encode(), 3),
    "lines": (NDJSON, lambda gauge: b"\n".join(json.dumps(reading(gauge, n)).encode() for n in range(3)) + b"\n\n", 3),
    "a structured event": (STRUCTURED, lambda gauge: to_structured(event(gauge, 0)), 1),
    "a batch": (BATCH, lambda gauge: b"[" + b",".join(to_structured(event(gauge, n)) for n in range(3)) + b"]", 3),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_accepted_and_found(lake, form):
    """Whatever form events are published in, each answers an id and a token, and a search after the last token finds the newest."""
    gauge = lake.gauge()
    kind, body, many = FORMS[form]
    answer = lake.http.post("/v1/events/readings", content=body(gauge), headers={"content-type": kind})
    assert answer.status_code == 202, answer.text
    accepted = answer.json().get("events", [answer.json()])
    assert len({each["id"] for each in accepted}) == len(accepted) == many
    assert all(each["token"].startswith(f"{lake.broker}/readings/") for each in accepted)
    found = lake.search(gauge, where=f"gauge={gauge}", after=[each["token"] for each in accepted]).json()["results"]
    assert [hit["text"] for hit in found] == [f"The gauge {gauge} at nowhere stands at 0.5 metres, says {gauge}-{many - 1}."]
    assert found[0]["position"] == accepted[-1]["token"]


def test_an_event_in_binary_mode_keeps_its_id(lake):
    """`ce-` headers make the body a CloudEvent: its id is the sender's."""
    gauge = lake.gauge()
    headers = {"ce-id": f"mine-{gauge}", "ce-source": "/mine", "ce-type": "reading", "ce-specversion": "1.0"}
    answer = lake.http.post("/v1/events/readings", json=reading(gauge), headers=headers).json()
    assert answer["id"] == f"mine-{gauge}"
    hit = lake.search(gauge, where=f"gauge={gauge}", after=answer["token"]).json()["results"][0]
    assert hit["event"] == f"mine-{gauge}"


def test_you_read_what_you_wrote(lake):
    """Fifty times, one after the other: a search after a token sees that event, never an older one."""
    gauge = lake.gauge()
    for n in range(50):
        token = lake.publish(**reading(gauge, n))
        answer = lake.search(gauge, where=f"gauge={gauge}", after=token, limit=1)
        assert answer.json()["results"][0]["text"].endswith(f"says {gauge}-{n}."), (n, answer.text)


def test_a_removed_thing_is_never_found_again(lake):
    """A delete is final: nor does an older event that comes later bring the document back."""
    gauge = lake.gauge()
    lake.publish(**reading(gauge, 0))
    token = lake.publish(**reading(gauge, 1), state="removed")
    assert lake.search(gauge, where=f"gauge={gauge}", after=token).json()["results"] == []
    old = to_structured(event(gauge, 2))
    late = lake.http.post("/v1/events/readings", content=old, headers={"content-type": STRUCTURED}).json()["token"]
    assert lake.search(gauge, where=f"gauge={gauge}", after=late).json()["results"] == []


@pytest.mark.parametrize(
    ("headers", "value", "cause"),
    [
        ([("ce_id", b"x")], b"{not json", "undecodable"),
        ([("ce_id", b"x")], b'{"id":"1","gauge":"g","metres":-1}', "invalid"),
        ([], b'{"id":"1","gauge":"g","metres":1}', "invalid"),
        ([("ce_id", b"x"), ("ce_time", b"yesterday")], b'{"id":"1","gauge":"g","metres":1}', "invalid"),
        ([("ce_id", b"x")], None, "invalid"),
        ([("ce_id", b"\xff\xfe")], b"{}", "undecodable"),
    ],
    ids=["not JSON", "breaks the model", "no id", "no time", "a tombstone", "a header that is no text"],
)
def test_what_is_malformed_is_buried_whole(lake, eventually, headers, value, cause):
    """A plain producer's malformed message: a dead letter with cause, bytes, headers, key, position; its token is 409; the flow goes on."""
    gauge = lake.gauge()
    [where] = lake.up.run.writer.write([Outgoing("readings", gauge.encode(), value, [("mine", b"\x00\x01"), *headers])])
    answer = lake.search(gauge, after=str(where))
    assert answer.status_code == 409, answer.text
    problem = answer.json()
    buried = [m for m in lake.messages("headwater.dead") if dict(m.headers)["headwater-origin"] == str(where).encode()]
    assert [(m.key, m.value) for m in buried] == [(gauge.encode(), value)]
    told = dict(buried[0].headers)
    assert told["mine"] == b"\x00\x01"
    assert [pair for pair in buried[0].headers if not pair[0].startswith("headwater-")] == [("mine", b"\x00\x01"), *headers]
    assert told["headwater-cause"] == cause.encode()
    assert told["headwater-id"] == problem["id"].encode()
    token = lake.publish(**reading(gauge))
    assert lake.search(gauge, where=f"gauge={gauge}", after=token).json()["results"]
    rows = eventually(lambda: lake.sql(f"from dead_letters where id = '{problem['id']}'"))
    assert [(row["cause"], row["position"]) for row in rows] == [(cause, where.short)]


@pytest.mark.parametrize(
    ("topic", "kind", "body", "status", "type"),
    [
        ("readings", JSON, b"{not json", 400, "undecodable"),
        ("readings", JSON, b'{"id":"1","gauge":"g","metres":-1}', 422, "invalid"),
        ("readings", JSON, b'[{"id":"1","gauge":"g","metres":1},{"id":"2"}]', 422, "invalid"),
        ("readings", STRUCTURED, b'{"id":"1"}', 422, "invalid"),
        ("readings", NDJSON, b"\n\n", 422, "invalid"),
        ("readings", BATCH, b"{}", 400, "undecodable"),
        ("rivers", JSON, b"{}", 404, "not_found"),
        ("headwater.lineage", JSON, b"{}", 404, "not_found"),
        ("readings", JSON, b'{"id":"1","gauge":"' + b"g" * 1_100_000 + b'","metres":1}', 413, "oversized"),
    ],
)
def test_the_gateway_refuses_before_it_produces(lake, topic, kind, body, status, type):
    """What could only become a dead letter is refused at the door with a problem (RFC 9457), and nothing is produced."""
    before = len(lake.messages("readings"))
    answer = lake.http.post(f"/v1/events/{topic}", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:headwater:{type}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail"} <= set(answer.json())
    assert len(lake.messages("readings")) == before
