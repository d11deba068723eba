"""What the door lets in: so much per address, so many waiting, each id once, streams in pieces; and no answer before the broker's."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater import Topic, Webhook
from headwater.flows import serve, web
from headwater.flows.desk import Desk
from headwater.flows.gateway import Gateway
from headwater.flows.limits import Rate, Room
from headwater.flows.lines import Lines
from headwater.flows.seen import Seen, digest
from headwater.flows.sink import Writer, outgoing
from headwater.lineage.errors import Conflict, HeadwaterError, Limited, Oversized, Unavailable
from headwater.lineage.event import Event, Position

pytestmark = pytest.mark.anyio
NOW = 1_900_000_000_000_000
S = 1_000_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Reading(BaseModel):
    id: str
    metres: float


readings = Topic("readings", Reading, key="id", max_bytes=1000)


class Kept:
    """A writer that keeps what it is given; with `open` cleared it waits, as on a broker that does not answer."""

    largest = 1_000_000

    def __init__(self) -> None:
        self.messages: list = []
        self.open = threading.Event()
        self.open.set()
        self.asked = 0
        self._lock = threading.Lock()

    def write(self, messages):
        found = list(messages)
        with self._lock:
            self.asked += 1
        assert self.open.wait(60)
        with self._lock:
            first = len(self.messages)
            self.messages += found
        return [Position("b", message.topic, 0, first + n) for n, message in enumerate(found)]


@pytest.fixture
def kept():
    writer = Kept()
    yield writer
    writer.open.set()


def door(writer, *, rate=0.0, burst=1000, room=None, patience_s=30.0, largest=16_000_000, clock=lambda: NOW, webhooks=()):
    """The routes as the process serves them, and a client."""
    numbers = iter(range(10**6))
    gateway = Gateway({"readings": readings}, writer, clock, lambda: f"id{next(numbers)}", largest=largest)
    desk = Desk(gateway, Rate(rate, burst, clock), room, patience_s)
    app = FastAPI()
    app.add_exception_handler(HeadwaterError, serve._problem)
    app.include_router(web.routes(desk, {hook.name: (hook, key) for hook, key in webhooks}, list, clock))
    return desk, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")


def reading(n: int) -> dict:
    return {"id": str(n), "metres": 1.0}


async def until(look):
    for _ in range(6000):
        if look():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never came true")


# --- the rate


@given(st.lists(st.tuples(st.integers(0, 3 * S), st.integers(1, 50)), min_size=1, max_size=40))
def test_over_any_stretch_no_more_than_rate_and_burst(requests):
    """What gets in up to any moment is at most burst + rate · time, plus what the last request overdrew."""
    now = NOW
    rate = Rate(10, 20, lambda: now)
    taken, last = 0, 0
    for pause, events in requests:
        now += pause
        if rate.wait("a") > 0:
            with pytest.raises(Limited) as limited:
                rate.admit("a")
            assert limited.value.details["retry_after"] == pytest.approx(rate.wait("a"))
        else:
            rate.admit("a")
            rate.take("a", events)
            taken, last = taken + events, events
            assert taken - last <= 20 + 10 * (now - NOW) / S


def test_one_address_does_not_pay_for_another():
    """Each has its own bucket; waiting as long as told is enough; a /64 of IPv6 is one sender's."""
    now = NOW
    rate = Rate(2, 4, lambda: now)
    rate.take("a", 5)
    rate.admit("b")
    with pytest.raises(Limited, match="more than 2 events a second"):
        rate.admit("a")
    now += round(rate.wait("a") * S)
    rate.admit("a")
    rate.take("2001:db8::1", 4)
    with pytest.raises(Limited):
        rate.admit("2001:db8::2")
    rate.admit("2001:db8:0:1::1")


def test_addresses_are_forgotten_within_a_bound():
    """The one that has been silent for longest goes first."""
    rate = Rate(1, 1, lambda: NOW, addresses=2)
    for address in "abc":
        rate.take(address, 1)
    assert [rate.wait(address) > 0 for address in "bca"] == [True, True, False]


# --- ids that count once


def event(id: str, data: bytes = b"1") -> Event:
    return Event(id=id, source="s", type="t", time=NOW, data=data)


@given(st.lists(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([b"1", b"2"])), min_size=1, max_size=4), max_size=12))
def test_an_id_is_produced_once_or_refused(requests):
    """Any sequence of requests, ids and data mixed: each id is produced once and keeps its position, other data is a conflict."""
    seen = Seen("t")
    log: list[str] = []
    first: dict[str, tuple[bytes, int]] = {}
    for request in requests:
        events = [event(id, data) for id, data in request]

        def produce(numbers, events=events):
            positions = [Position("b", "t", 0, len(log) + n) for n in range(len(numbers))]
            log.extend(events[number].id for number in numbers)
            return positions

        wanted = dict(first)
        agrees = all(wanted.setdefault(id, (data, 0))[0] == data for id, data in request)
        before = list(log)
        if not agrees:
            with pytest.raises(Conflict):
                seen.once(events, produce)
            assert log == before
            continue
        positions = seen.once(events, produce)
        for (id, data), position in zip(request, positions, strict=True):
            assert first.setdefault(id, (data, position.offset)) == (data, position.offset)
    assert sorted(log) == sorted(set(log))


def test_at_the_same_time_one_produces_and_the_others_wait():
    """Many threads, the same ids in different orders: each id is produced once, all get the same positions, nobody waits for ever."""
    seen, log, lock = Seen("t"), [], threading.Lock()
    ids = [str(n) for n in range(20)]

    def ask(turn: int) -> list[Position]:
        mine = ids[turn % 20 :] + ids[: turn % 20]

        def produce(numbers):
            time.sleep(0.002)
            with lock:
                positions = [Position("b", "t", 0, len(log) + n) for n in range(len(numbers))]
                log.extend(mine[number] for number in numbers)
            return positions

        return sorted(seen.once([event(id) for id in mine], produce))

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(64)))
    assert sorted(log) == sorted(ids)
    assert len({tuple(answer) for answer in answers}) == 1


def test_what_failed_may_be_sent_again():
    """An id that was not acknowledged is free again."""
    seen = Seen("t")

    def fail(numbers):
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        seen.once([event("a")], fail)
    assert seen.once([event("a")], lambda numbers: [Position("b", "t", 0, 7)]) == [Position("b", "t", 0, 7)]


def test_memory_of_ids_is_bounded():
    """The oldest is forgotten."""
    seen = Seen("t", window=3)
    for n in range(5):
        seen.once([event(str(n))], lambda numbers, n=n: [Position("b", "t", 0, n)])
    assert len(seen) == 3
    assert seen.once([event("4")], lambda numbers: []) == [Position("b", "t", 0, 4)]
    assert seen.once([event("0")], lambda numbers: [Position("b", "t", 0, 9)]) == [Position("b", "t", 0, 9)]


def test_the_same_data_may_be_written_differently():
    """Blanks and the order of fields are not data."""
    assert digest(b'{"a": 1, "b": [1, 2]}') == digest(b'{"b":[1,2],"a":1}') != digest(b'{"a":1,"b":[2,1]}')


def test_ids_are_learnt_from_the_topics_tail(kafka, name):
    """After a restart: what lies in the topic is answered with its position, other data under its id is a conflict; only news is read."""
    topic = Topic(name, Reading, key="id", partitions=2)
    kafka.create({name: 2})
    broker = kafka.broker_id()
    writer = Writer(kafka, broker)
    before = Gateway({name: topic}, writer, lambda: NOW)
    data = [json.dumps(reading(n)).encode() for n in range(50)]
    events = [Event(id=f"e{n}", source="s", type="t", time=NOW, data=each) for n, each in enumerate(data)]
    placed = [each.position for each in before.publish(topic, events)]
    after = Gateway({name: topic}, writer, lambda: NOW)
    after.remember(kafka, broker, topic)
    assert [each.position for each in after.publish(topic, events)] == placed
    with pytest.raises(Conflict, match="e3"):
        after.publish(topic, [Event(id="e3", source="s", type="t", time=NOW, data=data[4])])
    writer.write([outgoing(name, Event(id="other", source="s", type="t", time=NOW, data=data[0]), "1")])
    after.remember(kafka, broker, topic)
    assert after.publish(topic, [Event(id="other", source="s", type="t", time=NOW, data=data[0])])[0].position.offset > 0
    writer.close()


# --- the door


async def test_over_http_an_id_counts_once(kept):
    """By ce-id and by Idempotency-Key: the same token, one message; other data is 409; a key over several makes an id for each."""
    desk, client = door(kept)
    for headers in ({"ce-id": "mine"}, {"idempotency-key": "key"}):
        first, again = [await client.post("/v1/events/readings", json=reading(1), headers=headers) for _ in range(2)]
        assert first.status_code == again.status_code == 202
        assert first.json() == again.json()
        conflict = await client.post("/v1/events/readings", json=reading(2), headers=headers)
        assert (conflict.status_code, conflict.json()["type"]) == (409, "urn:headwater:conflict")
    assert len(kept.messages) == 2
    several = [await client.post("/v1/events/readings", json=[reading(1), reading(2)], headers={"idempotency-key": "k"}) for _ in range(2)]
    assert several[0].json() == several[1].json()
    assert [each["id"] for each in several[0].json()["events"]] == ["k/1", "k/2"]
    assert (await client.post("/v1/events/readings", json=reading(1), headers={"idempotency-key": "k" * 201})).status_code == 422
    desk.close()


async def test_origin_and_priority_travel_with_every_event(kept):
    """The origin is ours to say, whatever the sender claims; the priority is the sender's, if there is such a one."""
    desk, client = door(kept)
    for headers in ({}, {"ce-priority": "high", "ce-origin": "webhook/crm"}, {"ce-id": "1", "ce-priority": "low", "ce-origin": "x"}):
        assert (await client.post("/v1/events/readings", json=reading(1), headers=headers)).status_code == 202
    told = [dict(message.headers) for message in kept.messages]
    assert [(each["ce_origin"], each["ce_priority"]) for each in told] == [(b"http", b"normal"), (b"http", b"high"), (b"http", b"low")]
    wrong = await client.post("/v1/events/readings", json=reading(1), headers={"ce-priority": "urgent"})
    assert wrong.status_code == 422 and "'urgent' is none of low, normal, high" in wrong.json()["detail"]
    desk.close()


async def test_too_much_from_one_address_is_told_when_to_come_again(kept):
    """429 with Retry-After, a problem; events count, not requests; and after that time it goes on."""
    now = NOW
    desk, client = door(kept, rate=10, burst=10, clock=lambda: now)
    assert (await client.post("/v1/events/readings", json=[reading(n) for n in range(30)])).status_code == 202
    refused = await client.post("/v1/events/readings", json=reading(1))
    assert (refused.status_code, refused.json()["type"], refused.headers["retry-after"]) == (429, "urn:headwater:limited", "2")
    assert (await client.post("/v1/webhooks/none", json={})).status_code == 429
    now += 3 * S
    assert (await client.post("/v1/events/readings", json=reading(1))).status_code == 202
    desk.close()


async def test_a_broker_that_does_not_answer_fills_the_desk_and_no_more(kept):
    """A bounded number waits, none is answered; more get 503 with Retry-After, other routes answer; once it is back all are answered."""
    desk, client = door(kept, room=Room(requests=3))
    kept.open.clear()
    waiting = [asyncio.create_task(client.post("/v1/events/readings", json=reading(n))) for n in range(3)]
    await until(lambda: kept.asked == 3)
    refused = await client.post("/v1/events/readings", json=reading(9))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert (await client.get("/v1/gateways")).status_code == 200
    assert not any(task.done() for task in waiting) and kept.messages == []
    kept.open.set()
    assert [(await task).status_code for task in waiting] == [202] * 3
    assert desk.room.waiting == 0
    desk.close()


async def test_a_request_waits_only_so_long_for_the_broker(kept):
    """503 that gives the ids: sent again under them, they count once, though the first try had gone through meanwhile."""
    desk, client = door(kept, patience_s=0.05)
    kept.open.clear()
    refused = await client.post("/v1/events/readings", json=reading(1))
    assert refused.status_code == 503 and desk.room.waiting == 1
    kept.open.set()
    await until(lambda: desk.room.waiting == 0)
    desk.patience_s = 30
    [id] = refused.json()["ids"]
    assert (await client.post("/v1/events/readings", json=reading(1), headers={"ce-id": id})).status_code == 202
    assert len(kept.messages) == 1
    desk.close()


async def test_bodies_together_are_bounded(kept):
    """Bytes that wait count as requests do; and one body has its own limit."""
    desk, client = door(kept, room=Room(size=150), largest=1000)
    assert (await client.post("/v1/events/readings", json=reading(1))).status_code == 202
    assert (await client.post("/v1/events/readings", content=b" " * 200)).status_code == 503
    assert desk.room.waiting == 0
    big, client = door(kept, largest=1000)
    assert (await client.post("/v1/events/readings", content=b" " * 1001)).status_code == 413
    desk.close()
    big.close()


async def test_a_stopping_gateway_takes_nothing_more(kept):
    """503, and nothing is produced."""
    desk, client = door(kept)
    desk.gateway.close()
    assert (await client.post("/v1/events/readings", json=reading(1))).status_code == 503
    assert kept.messages == []
    desk.close()


# --- streams


@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=30), st.integers(1, 9), st.booleans())
def test_pieces_are_the_lines(lines, size, ends):
    """However a stream is cut: the lines that are not blank, each with its number, in pieces that are no larger than said."""
    body = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    cut = Lines(longest=100, lines=4, size=20)
    pieces = [piece for n in range(0, len(body), size) for piece in cut.feed(body[n : n + size])]
    pieces += [piece for piece in [cut.end()] if piece]
    assert [pair for piece in pieces for pair in piece] == [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    assert all(len(piece) <= 4 and sum(len(line) for _, line in piece[:-1]) < 20 for piece in pieces)


def test_a_line_without_end_is_refused_early():
    """Oversized, with its number, before more of it is taken in."""
    cut = Lines(longest=10)
    cut.feed(b"1\n2\n")
    with pytest.raises(Oversized, match="line 3"):
        cut.feed(b"x" * 11)


async def test_a_stream_larger_than_a_request_goes_through_in_pieces(kept):
    """Every line once, in order; the answer says how many, and per partition the last token."""
    desk, client = door(kept, largest=50_000)
    body = b"".join(json.dumps(reading(n)).encode() + b"\n" for n in range(10_000))
    told = (await client.post("/v1/events/readings", content=body, headers={"content-type": "application/x-ndjson"})).json()
    assert told == {"accepted": 10_000, "lines": 10_000, "tokens": ["b/readings/0/9999"]}
    assert [json.loads(message.value)["id"] for message in kept.messages] == [str(n) for n in range(10_000)]
    assert kept.asked > 3 and desk.room.waiting == 0
    desk.close()


async def test_a_slowed_stream_ends_when_the_gateway_does(kept):
    """It waits for its turn, not for a stop: 503 at once, and how far it came."""
    desk, client = door(kept, rate=0.001, burst=2, largest=1000)
    body = b"".join(json.dumps(reading(n)).encode() + b"\n" for n in range(5000))
    sent = asyncio.ensure_future(client.post("/v1/events/readings", content=body, headers={"content-type": "application/x-ndjson"}))
    await until(lambda: kept.messages)
    desk.gateway.close()
    answer = await asyncio.wait_for(sent, 30)
    assert (answer.status_code, answer.json()["accepted"]) == (503, len(kept.messages)) and len(kept.messages) < 5000


async def test_a_wrong_line_of_a_stream_is_named(kept):
    """422 with the line, and how far the events before it are published: all of the pieces before, nothing of its own."""
    desk, client = door(kept, largest=50_000)
    lines = [json.dumps(reading(n)).encode() for n in range(10_000)]
    lines[7_000] = b'{"id": "x"}'
    headers = {"content-type": "application/x-ndjson", "idempotency-key": "file"}
    refused = await client.post("/v1/events/readings", content=b"\n".join(lines), headers=headers)
    told = refused.json()
    assert (refused.status_code, told["line"], told["accepted"]) == (422, 7001, len(kept.messages))
    assert told["accepted"] == told["lines"] == 6000
    lines[7_000] = json.dumps(reading(7000)).encode()
    again = await client.post("/v1/events/readings", content=b"\n".join(lines), headers=headers)
    assert again.json()["accepted"] == 10_000
    assert len(kept.messages) == 10_000  # the key and the line's number are the id: what was there counts once
    desk.close()


async def test_the_trace_of_a_request_is_that_of_its_events(kept):
    """By any door but streams; an event that names its own trace keeps it, and a malformed header is as none."""
    import hashlib
    import hmac

    theirs, own = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")
    desk, client = door(kept, webhooks=[(Webhook("crm", into=readings, secret="CRM_SECRET"), b"key")])
    body = json.dumps(reading(1)).encode()
    signed = {"x-signature": hmac.new(b"key", body, hashlib.sha256).hexdigest()}
    await client.post("/v1/webhooks/crm", content=body, headers={**signed, "traceparent": theirs})
    await client.post("/v1/events/readings", json=reading(2), headers={"traceparent": theirs})
    await client.post("/v1/events/readings", json=reading(3), headers={"traceparent": theirs, "ce-id": "3", "ce-traceparent": own})
    await client.post("/v1/events/readings", json=reading(4), headers={"traceparent": "00-what-01"})
    traces = [dict(message.headers).get("ce_traceparent") for message in kept.messages]
    assert traces == [theirs.encode(), theirs.encode(), own.encode(), None]
    desk.close()


async def test_a_webhook_over_http(kept):
    """202 with a token for what is signed, the same token again; 401 and nothing produced for what is not; 404 names those there are."""
    import hashlib
    import hmac

    hook = Webhook("crm", into=readings, secret="CRM_SECRET", id="id", priority="high")
    desk, client = door(kept, webhooks=[(hook, b"key")])
    body = json.dumps(reading(1)).encode()
    signed = {"x-signature": hmac.new(b"key", body, hashlib.sha256).hexdigest()}
    answers = [await client.post("/v1/webhooks/crm", content=body, headers=signed) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202] and answers[0].json() == answers[1].json()
    assert (await client.post("/v1/webhooks/crm", content=body + b" ", headers=signed)).status_code == 401
    assert (await client.post("/v1/webhooks/crm", content=body)).json()["type"] == "urn:headwater:bad_signature"
    assert "declares crm" in (await client.post("/v1/webhooks/erp", content=body)).json()["detail"]
    [message] = kept.messages
    assert (dict(message.headers)["ce_origin"], dict(message.headers)["ce_priority"]) == (b"webhook/crm", b"high")
    assert (await client.get("/v1/gateways")).json() == [{"gateway": "webhook/crm", "into": "readings", "signed": True}]
    desk.close()
