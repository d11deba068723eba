"""Webhooks: nothing unsigned gets in, foreign payloads become the topic's events, a redelivery produces nothing."""

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from headwater import Topic, Webhook
from headwater.flows.webhook import delivered, verify
from headwater.lineage.errors import BadSignature, HeadwaterError, Invalid, Misused, Undecodable
from headwater.lineage.named_secret import secret

NOW = 1_900_000_000_000_000
KEY = b"a shared secret"


class Contact(BaseModel):
    id: str
    email: str
    score: float = 0.0


class Change(BaseModel):
    id: str = Field(alias="ContactId")
    email: str = Field(alias="EMail")


contacts = Topic("contacts", Contact, key="id")


def hook(**more) -> Webhook:
    return Webhook("crm", **{"into": contacts, "model": Change, "secret": "CRM_SECRET", "header": "X-Crm-Signature", **more})


def sign(body: bytes, algorithm=hashlib.sha256) -> str:
    return hmac.new(KEY, body, algorithm).hexdigest()


def ids():
    return "fresh"


BODY = b'{"ContactId": "7", "EMail": "a@b.c"}'


@given(st.binary(max_size=100), st.binary(max_size=100), st.text(max_size=80))
def test_only_the_right_signature_passes(body, other, nonsense):
    """Of any body its own signature is taken; that of another body, and any other text, are refused."""
    verify(hook(), KEY, {"x-crm-signature": sign(body)}, body, NOW)
    for wrong in (sign(other), nonsense):
        if wrong.lower() != sign(body):
            with pytest.raises(BadSignature):
                verify(hook(), KEY, {"x-crm-signature": wrong}, body, NOW)


def test_a_request_without_signature_is_refused():
    """BadSignature, naming the header."""
    with pytest.raises(BadSignature, match="X-Crm-Signature is missing"):
        verify(hook(), KEY, {}, BODY, NOW)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"prefix": "sha256="}, "sha256=" + sign(BODY)),
        ({"prefix": "v1="}, "t=17, v1=" + "0" * 64 + ", v1=" + sign(BODY)),
        ({"algorithm": "sha512"}, sign(BODY, hashlib.sha512)),
        ({"encoding": "base64"}, __import__("base64").b64encode(hmac.new(KEY, BODY, hashlib.sha256).digest()).decode()),
    ],
)
def test_senders_write_signatures_in_their_ways(more, text):
    """Prefix, several in one header, algorithm, encoding: as declared, and not otherwise."""
    verify(hook(**more), KEY, {"x-crm-signature": text}, BODY, NOW)
    with pytest.raises(BadSignature):
        verify(hook(**more), KEY, {"x-crm-signature": text}, BODY + b" ", NOW)


@pytest.mark.parametrize(("age_s", "fine"), [(0, True), (299, True), (301, False), (-301, False)])
def test_an_old_signature_is_a_replay(age_s, fine):
    """With a timestamp, the time is signed too and must be within the tolerance."""
    declared = hook(timestamp="X-Sent", tolerance="5m")
    sent = str(NOW // 1_000_000 - age_s)
    headers = {"x-sent": sent, "x-crm-signature": sign(f"{sent}.".encode() + BODY)}
    if fine:
        verify(declared, KEY, headers, BODY, NOW)
        with pytest.raises(BadSignature):
            verify(declared, KEY, {**headers, "x-sent": str(int(sent) + 1)}, BODY, NOW)
    else:
        with pytest.raises(BadSignature, match="at most 5m is allowed"):
            verify(declared, KEY, headers, BODY, NOW)


def test_what_is_signed_can_be_said():
    """As Slack signs: a version, the time, the body."""
    declared = hook(timestamp="X-Sent", signs="v0:{timestamp}:{body}", prefix="v0=")
    sent = str(NOW // 1000)
    verify(declared, KEY, {"x-sent": sent, "x-crm-signature": "v0=" + sign(f"v0:{sent}:".encode() + BODY)}, BODY, NOW)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"secret": None}, "unsigned=True"),
        ({"unsigned": True}, "not unsigned"),
        ({"algorithm": "md5"}, "algorithm is one of"),
        ({"timestamp": "X-Sent", "signs": "{body}"}, "timestamp"),
        ({"priority": "urgent"}, "none of low, normal, high"),
        ({"into": Contact}, "is no Topic"),
    ],
)
def test_a_declaration_that_is_not_safe_is_refused(more, told):
    """Misused, before anything listens."""
    with pytest.raises(Misused, match=told):
        hook(**more)


def test_a_missing_secret_says_what_to_set(tmp_path):
    """At start, by name; a file will do; the value is in no message."""
    with pytest.raises(Misused, match="set CRM_SECRET, or CRM_SECRET_FILE"):
        secret("CRM_SECRET", "webhook crm", {}, None)
    (tmp_path / "s").write_text("from a file\n")
    assert secret("CRM_SECRET", "webhook crm", {"CRM_SECRET_FILE": str(tmp_path / "s")}, None) == b"from a file"
    assert secret("CRM_SECRET", "webhook crm", {"CRM_SECRET": "s"}, None) == b"s"


def test_aliases_map_the_foreign_payload():
    """The model reads foreign names, the topic's model gets its own."""
    [event] = delivered(hook(), {}, BODY, NOW, ids)
    assert json.loads(event.data) == {"id": "7", "email": "a@b.c", "score": 0.0}
    assert (event.id, event.source, event.type, event.time) == ("fresh", "headwater/webhook/crm", "contacts", NOW)


def test_a_function_maps_the_foreign_payload():
    """`as_` has the last word, and may say nothing; a method `to_event` does the same."""

    class Spoken(Change):
        def to_event(self) -> dict:
            return {"id": self.id, "email": "spoken"}

    as_ = hook(model=None, as_=lambda payload: {"id": str(payload["n"]), "email": "x"} if payload["n"] else None)
    assert [json.loads(e.data)["id"] for e in delivered(as_, {}, b'[{"n": 1}, {"n": 0}, {"n": 2}]', NOW, ids)] == ["1", "2"]
    assert json.loads(delivered(hook(model=Spoken), {}, BODY, NOW, ids)[0].data)["email"] == "spoken"


def test_a_redelivery_has_the_same_id():
    """By a field, by several, or by a header (each item of a batch by its number); another webhook's same id is another event's."""
    by_field, by_two = hook(id="ContactId"), hook(id=("ContactId", "EMail"))
    for declared in (by_field, by_two, hook(id="header:X-Delivery")):
        first, again = ([e.id for e in delivered(declared, {"X-Delivery": "d"}, BODY, at, ids)] for at in (NOW, NOW + 1))
        assert first == again != ["fresh"]
    two = [e.id for e in delivered(hook(id="header:x-delivery"), {"X-Delivery": "d"}, b"[" + BODY + b"," + BODY + b"]", NOW, ids)]
    assert len(set(two)) == 2
    other = Webhook("erp", into=contacts, model=Change, unsigned=True, id="ContactId")
    assert delivered(other, {}, BODY, NOW, ids)[0].id != delivered(by_field, {}, BODY, NOW, ids)[0].id


@pytest.mark.parametrize(
    ("body", "more", "error", "told"),
    [
        (b"nonsense", {}, Undecodable, "not JSON"),
        (b'{"ContactId": "7"}', {}, Invalid, "EMail: Field required"),
        (b"[" + BODY + b', {"EMail": 3}]', {}, Invalid, "item 2 of 2"),
        (BODY, {"as_": lambda payload: 1 / 0}, Invalid, "ZeroDivisionError"),
        (BODY, {"id": "Delivery"}, Invalid, "no Delivery in the payload"),
        (BODY, {"id": "header:X-Delivery"}, Invalid, "X-Delivery is missing"),
        (BODY, {"time": "At"}, Invalid, "At tells no time"),
    ],
)
def test_a_bad_payload_says_what_is_wrong(body, more, error, told):
    """By item and field."""
    with pytest.raises(error, match=told):
        delivered(hook(**more), {}, body, NOW, ids)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ContactId", "EMail", "x"]), inner, max_size=3), max_leaves=8))  # fmt: skip  # noqa: E501
def test_any_payload_is_events_or_one_of_our_errors(payload):
    """Whatever JSON comes, the answer is events or a HeadwaterError."""
    try:
        for event in delivered(hook(id="ContactId"), {}, json.dumps(payload).encode(), NOW, ids):
            contacts.decode(event.data)
    except HeadwaterError:
        pass
