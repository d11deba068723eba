"""Dead letters listed, shown, sent again and dropped, over HTTP and by command: each once, nothing silently, both lives told."""

import json
import threading

import pytest
from typer.testing import CliRunner

from headwater.flows import dead
from headwater.flows.attempt import ATTEMPT, ORIGIN, OURS
from headwater.flows.cli import cli
from headwater.flows.dead import again
from headwater.flows.deadletter import bury_foreign
from headwater.flows.sink import Outgoing
from headwater.flows.steps import to_lineage
from headwater.lineage.dead import Letter
from headwater.lineage.errors import HeadwaterError, Invalid
from headwater.lineage.event import Message
from headwater.lineage.topic import DEAD


@pytest.fixture
def buried(lake, eventually):
    """Buries events of new gauges; gives their gauges and dead letters' ids."""

    def bury(many=1):
        gauges = [lake.gauge() for _ in range(many)]
        lake.flaky.refused.update(gauges)
        positions = lake.publish(*gauges)
        places = ", ".join(f"'{position.short}'" for position in positions)
        query = f"select id, position from dead_letters where position in ({places})"
        rows = eventually(lambda: len(found := lake.rows(query)) == many and found)
        by_place = {row["position"]: row["id"] for row in rows}
        return gauges, [by_place[position.short] for position in positions], positions

    return bury


def post(lake, verb, **body):
    answer = lake.http.post(f"/v1/dead/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def command(lake, *words):
    result = CliRunner().invoke(cli, ["dead", *words, "--url", lake.up.address])
    if isinstance(result.exception, HeadwaterError):
        raise result.exception
    return result


def state(lake, id):
    return lake.http.get(f"/v1/dead/{id}").json()["dead_letter"]["state"]


def test_a_redriven_event_is_the_same_event(lake, buried, eventually):
    """Original bytes, key and headers on the original partition, origin and attempt told; indexed now; its history shows both lives."""
    [gauge], [id], [first] = buried()
    lake.flaky.refused.discard(gauge)
    [done] = post(lake, "redrive", ids=[id[:8]], by="me")["done"]
    topic, partition, offset = done["position"].split("/")[1:]
    assert (topic, int(partition)) == (first.topic, first.partition)
    messages = {message.offset: message for message in lake.messages(first.topic, first.partition)}
    old, new = messages[first.offset], messages[int(offset)]
    assert (old.key, old.value) == (new.key, new.value)
    assert [pair for pair in new.headers if pair[0] not in OURS] == old.headers
    assert dict(new.headers)[ORIGIN] == str(first).encode() and dict(new.headers)[ATTEMPT] == b"2"
    eventually(lambda: lake.rows(f"from documents where document = 'level/{gauge}'"))
    lake.settled()
    shown = lake.http.get(f"/v1/dead/{id}").json()
    assert shown["dead_letter"]["state"] == "redriven" and shown["dead_letter"]["closed_by"] == "me"
    event = dict(old.headers)["ce_id"].decode()
    for asked in (id, event, first.short, done["position"]):
        lives = lake.http.get(f"/v1/why/{asked}").json()["lives"]
        assert [life["position"] for life in lives] == [str(first), done["position"]], asked
        assert any("redriven by me, as try 2" in step for step in lives[0]["steps"])
        assert "index: indexed" in lives[1]["steps"]
    assert "Lives" in lake.http.get(f"/v1/why/{id}?format=html").text


def test_redriven_again_and_again_it_counts_its_tries(lake, buried, eventually):
    """Poison that a person redrives: each life ends as a dead letter of its own, tries counted, origin kept; nothing moves by itself."""
    _, [id], [first] = buried()
    for attempt in (2, 3):
        [done] = post(lake, "redrive", ids=[id])["done"]
        short = "{}/{}@{}".format(*done["position"].split("/")[1:])
        [row] = eventually(lambda short=short: lake.rows(f"select id, attempt, origin from dead_letters where position = '{short}'"))
        assert (row["attempt"], row["origin"]) == (attempt, str(first)) and row["id"] != id
        id = row["id"]
    lake.settled()
    assert len(lake.http.get(f"/v1/why/{first.short}").json()["lives"]) == 3


def test_each_is_closed_once(lake, buried):
    """A second redrive, or a drop after it, is refused and says so, before the first has landed too; two at once close it once."""
    gauges, [id, other], _ = buried(2)
    lake.flaky.refused.difference_update(gauges)
    assert len(post(lake, "redrive", ids=[id])["done"]) == 1
    for answer in (post(lake, "redrive", ids=[id]), post(lake, "drop", ids=[id], reason="no")):
        assert answer["done"] == [] and "redriven already" in answer["refused"][0]["why"]
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(lake, "redrive", ids=[other]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(answer["done"]) for answer in answers) == [0, 0, 1]
    lake.settled()


def test_dropped_with_who_and_why(lake, buried, eventually):
    """A drop is a record with who, when and why; the letter stays where it lies."""
    _, [id], _ = buried()
    assert lake.http.post("/v1/dead/drop", json={"ids": [id], "reason": " "}).json()["type"] == "urn:headwater:misused"
    assert len(post(lake, "drop", ids=[id], by="me", reason="a test gauge")["done"]) == 1
    eventually(lambda: state(lake, id) == "dropped")
    shown = lake.http.get(f"/v1/dead/{id}").json()
    assert (shown["dead_letter"]["closed_by"], shown["dead_letter"]["reason"]) == ("me", "a test gauge")
    assert any("dropped by me: a test gauge" in step for step in shown["lives"][0]["steps"])
    assert shown["message"]["value"]["text"].startswith('{"gauge"')
    lake.settled()


def test_a_dry_run_does_nothing(lake, buried):
    """It says what would happen."""
    _, ids, _ = buried(2)
    before = len(lake.messages("readings")) + len(lake.messages("readings", 1))
    answer = post(lake, "redrive", ids=ids, dry_run=True)
    assert answer["dry_run"] and {each["id"] for each in answer["done"]} == set(ids)
    assert len(lake.messages("readings")) + len(lake.messages("readings", 1)) == before
    assert [state(lake, id) for id in ids] == ["waiting", "waiting"]


@pytest.mark.parametrize(("verb", "body", "status", "word"), [
    ("redrive", {}, 400, "say which"),
    ("redrive", {"ids": ["ffffffff"]}, 404, "no dead letter"),
    ("redrive", {"ids": ["f"]}, 404, "at least 6"),
    ("drop", {"ids": ["ffffffff"]}, 422, "reason"),
    ("redrive", {"cause": "invalids", "dry_run": True}, 400, "did you mean invalid?"),
    ("redrive", {"since": "yesterday"}, 400, "neither a duration"),
])  # fmt: skip
def test_refusals_say_what_to_do(lake, verb, body, status, word):
    """RFC 9457 problems; nothing is closed by a call that names nothing."""
    answer = lake.http.post(f"/v1/dead/{verb}", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert word in answer.json()["detail"]


def test_filters_and_pages(lake, buried):
    """Filters are conjunctive; the cursor goes on where a page ended, and the pages are the whole list."""
    _, ids, _ = buried(3)
    [row] = lake.rows(f"select event from dead_letters where id = '{ids[0]}'")
    only = lake.http.get("/v1/dead", params={"event": row["event"]}).json()["dead_letters"]
    assert [letter["id"] for letter in only] == [ids[0]]
    assert lake.http.get("/v1/dead", params={"event": row["event"], "cause": "invalid"}).json()["dead_letters"] == []
    assert {each["id"] for each in lake.http.get("/v1/dead", params={"since": "1h", "limit": 1000}).json()["dead_letters"]} >= set(ids)
    whole = [each["id"] for each in lake.http.get("/v1/dead", params={"limit": 1000}).json()["dead_letters"]]
    paged, cursor = [], None
    while cursor is not None or not paged:
        page = lake.http.get("/v1/dead", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        paged += [each["id"] for each in page["dead_letters"]]
        cursor = page["cursor"]
    assert paged == whole
    for params in ({"state": "gone"}, {"cursor": "x"}):
        assert lake.http.get("/v1/dead", params=params).status_code == 400


def test_what_never_lay_on_a_topic_is_dropped_or_mended_at_its_origin(lake, eventually):
    """A row that a gateway could not take is listed by its origin; it cannot be sent again, it can be dropped."""
    id = "00000000-0000-5000-8000-000000000017"
    message, record = bury_foreign(id, "inbox/a.csv:17", b"rubbish", Invalid("metres: not a number"), 1)
    lake.run.writer.write([message, *to_lineage("gateway", [record])])
    letter = eventually(lambda: next((each for each in lake.http.get("/v1/dead").json()["dead_letters"] if each["id"] == id), None))
    assert (letter["position"], letter["short"], letter["topic"], letter["state"]) == ("", "inbox/a.csv:17", "", "waiting")
    assert "inbox/a.csv:17" in command(lake, "list").output and "rubbish" in command(lake, "show", id).output
    assert lake.http.get(f"/v1/why/{id}").status_code == 200
    answer = post(lake, "redrive", ids=[id])
    assert answer["done"] == [] and "it came from inbox/a.csv:17" in answer["refused"][0]["why"]
    assert [each["id"] for each in post(lake, "drop", ids=[id], reason="test")["done"]] == [id]
    eventually(lambda: state(lake, id) == "dropped")


def test_a_transaction_that_fails_closes_nothing(lake, buried, monkeypatch):
    """The broker refuses the records: the call says so, the letter waits still, and the next call sends it once."""
    [gauge], [id], _ = buried()
    lake.flaky.refused.discard(gauge)
    with monkeypatch.context() as patched:
        patched.setattr(dead, "to_lineage", lambda *args: [Outgoing("headwater.lineage", b"dead", b"[]" * 15_000_000, [])])
        answer = lake.http.post("/v1/dead/redrive", json={"ids": [id]})
    assert answer.status_code == 503, answer.text
    assert state(lake, id) == "waiting"
    assert len(post(lake, "redrive", ids=[id])["done"]) == 1
    lake.settled()


def test_by_command(lake, buried, eventually):
    """list, show, redrive and drop: dry run, a question unless --yes, data with --json; nothing chosen is exit 2's error."""
    gauges, ids, _ = buried(3)
    lake.flaky.refused.difference_update(gauges)
    listed = json.loads(command(lake, "list", "--id", ids[0], "--id", ids[1], "--json").stdout)
    assert {row["id"] for row in listed} == set(ids[:2]) and {row["state"] for row in listed} == {"waiting"}
    shown = command(lake, "show", ids[0][:8]).stdout
    assert gauges[0] in shown and "no such gauge in the register" in shown and "life 1" in shown
    assert "would be redriven" in command(lake, "redrive", ids[0], "--dry-run").stdout
    asked = CliRunner().invoke(cli, ["dead", "redrive", ids[0], "--url", lake.up.address], input="n\n")
    assert asked.exit_code == 1 and state(lake, ids[0]) == "waiting"
    answer = json.loads(command(lake, "redrive", *ids[:2], "--yes", "--json").stdout)
    assert {each["id"] for each in answer["done"]} == set(ids[:2])
    again_ = command(lake, "redrive", ids[0], "--yes")
    assert again_.exit_code == 1 and "redriven already" in again_.stdout
    assert "dropped" in command(lake, "drop", ids[2], "--reason", "a test", "--yes").stdout
    with pytest.raises(HeadwaterError, match="say which"):
        command(lake, "redrive", "--yes")
    lake.settled()


def letter(**more):
    fields = {"id": "d", "position": "b/t/1/7", "short": "t/1@7", "cause": "invalid", "error": "", "event": None, "flow": "index",
              "topic": "t", "attempt": 1, "state": "waiting", "origin": "b/t/1/7", "first_failure": None, "logged": 0}  # fmt: skip
    return Letter(**{**fields, **more})


def test_a_message_that_names_no_time_keeps_its_own():
    """Its event time was its append time; a redrive writes that down, and adds nothing to those that name one."""
    ours = [("headwater-appended", b"1700000000000"), ("headwater-cause", b"invalid")]
    bare = again(letter(attempt=4), Message(DEAD, 0, 0, 1, b"k", b"v", [("ce_id", b"e"), *ours]))
    assert bare == Outgoing(
        "t", b"k", b"v", [("ce_id", b"e"), ("ce_time", b"2023-11-14T22:13:20Z"), (ORIGIN, b"b/t/1/7"), (ATTEMPT, b"5")], 1
    )
    for kept in (("ce_time", b"2013-01-01T00:00:00Z"), ("content-type", b"application/cloudevents+json")):
        sent = again(letter(), Message(DEAD, 0, 0, 1, None, None, [kept, *ours]))
        assert [pair for pair in sent.headers if pair[0] not in OURS] == [kept]
