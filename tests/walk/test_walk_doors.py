"""The HTTP doors of a running application: freshness tokens, lineage, process, problems."""

import json

import pytest

from headwater.lineage.topic import ACTIVATIONS, DECISIONS


def test_a_token_of_another_life_is_gone(lake):
    """410: offsets of two broker lives never compare."""
    answer = lake.search("gauge", after="another-life/readings/0/0")
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:headwater:gone")


def test_a_position_not_reached_is_refused_in_time(lake):
    """412 with Retry-After and how far the index is behind, once the wait is over."""
    answer = lake.search("gauge", after=f"{lake.broker}/readings/0/1000000", wait="50ms")
    assert (answer.status_code, answer.json()["type"]) == (412, "urn:headwater:behind")
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["behind"]["readings/0@1000000"] > 0


@pytest.mark.parametrize(
    "params",
    [{"q": ""}, {"q": "x", "after": "nonsense"}, {"q": "x", "limit": 0}, {"q": "x", "as_of": "yesterday"}, {"q": "x", "wait": "soon"}],
)
def test_a_malformed_search_is_a_problem(lake, params):
    """400: it says what is wrong, as RFC 9457."""
    answer = lake.http.get("/v1/search", params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), answer.text
    assert answer.json()["detail"]


def test_wrong_types_are_a_problem_too(lake):
    """What the framework itself refuses has the same form."""
    answer = lake.http.get("/v1/search", params={"q": "x", "limit": "many"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    answer = lake.http.get("/v1/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


def test_the_page_about_the_interface_names_every_route(lake):
    """What stands in /openapi.json stands on /docs."""
    page = lake.http.get("/docs").text
    paths = lake.http.get("/openapi.json").json()["paths"]
    assert len(paths) > 20 and [path for path in paths if f"<code>{path}</code>" not in page] == []


def test_no_other_site_speaks_for_who_looks_at_it(lake):
    """403: a form of a foreign page publishes nothing, and a foreign name that leads here reads nothing."""
    event = b'{"id": "x", "gauge": "foreign", "metres": 1.0}'
    answer = lake.http.post("/v1/events/readings", content=event, headers={"origin": "http://evil.example", "content-type": "text/plain"})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert lake.http.get("/v1/decisions", headers={"host": "evil.example"}).status_code == 403


def test_the_declared_files_are_found(lake):
    """Files of the application are documents from the start: `up` publishes them."""
    token = str(lake.up.file_positions[-1])
    hits = lake.search("when do cellars flood", types="files", type="files", after=token).json()["results"]
    assert {hit["document"] for hit in hits} == {"files/procedures/high-water.md"}
    assert lake.http.get("/v1/documents/files/procedures/high-water.md").json()["type"] == "files"


def test_a_document_tells_its_versions(lake):
    """GET /v1/documents/ID: newest first, each with the event it came from; an unknown one is 404."""
    gauge = lake.gauge()
    lake.publish(id="a", gauge=gauge, metres=0.5)
    lake.search(gauge, after=lake.publish(id="b", gauge=gauge, metres=0.6))
    document = lake.http.get(f"/v1/documents/level/{gauge}").json()
    assert [version["chunks"][0]["text"].rpartition(" ")[2] for version in document["versions"]] == ["b.", "a."]
    assert lake.http.get("/v1/documents/level/nobody").status_code == 404


def test_one_life_from_event_to_effect(lake, eventually):
    """A reading above the level: one activation, one decision of each agent, each effect published once, all of it told by `why`."""
    gauge = lake.gauge()
    token = lake.publish(id="high", gauge=gauge, metres=3.2)
    decisions = eventually(lambda: len(rows := lake.sql(f"from decisions where key = '{gauge}' order by agent")) == 2 and rows)
    assert [(row["agent"], row["outcome"]) for row in decisions] == [("log", "acted"), ("warn", "acted")]
    activations = lake.events(ACTIVATIONS, gauge)
    assert [(a["rule"], a["phase"], a["value"]) for a in activations] == [("high_water", "opened", 3.2)]
    [alarm] = eventually(lambda: lake.events("alarms", gauge))
    assert alarm["response"] == "warn residents"
    effects = eventually(
        lambda: len(rows := lake.sql(f"from effects where decision in (select id from decisions where key = '{gauge}')")) == 3 and rows
    )
    by_id = {dict(m.headers)["ce_id"].decode(): m for name in ("alarms", "notes") for m in lake.messages(name)}
    for effect in effects:
        message = by_id[effect["id"]]
        assert effect["position"] == f"{lake.broker}/{message.topic}/{message.partition}/{message.offset}"
    path = lake.http.get(f"/v1/why/{decisions[1]['id']}")
    assert path.status_code == 200
    assert all(part in path.text for part in (alarm["mark"], activations[0]["id"], token.split("/", 1)[1].rpartition("/")[0]))
    assert lake.http.get(f"/v1/decisions/{decisions[1]['id']}/why").status_code == 200
    assert "<html" in lake.http.get(f"/v1/why/{decisions[1]['id']}", params={"format": "html"}).text


def test_an_agent_sees_what_woke_it(lake, eventually):
    """The retrieval behind a decision holds the document of the very event that woke the agent, every time."""
    gauges = [lake.gauge() for _ in range(10)]
    for gauge in gauges:
        lake.publish(id=f"woke-{gauge}", gauge=gauge, metres=2.5)
    names = ", ".join(f"'{gauge}'" for gauge in gauges)
    seen = f"select d.key, e.text from evidence e join decisions d on d.id = e.decision where d.key in ({names}) and d.agent = 'warn'"
    eventually(lambda: len({row["key"] for row in lake.sql(seen)}) == len(gauges))
    texts = lake.sql(seen)
    for gauge in gauges:
        assert any(row["text"].endswith(f"says woke-{gauge}.") for row in texts if row["key"] == gauge), gauge


def test_an_unsure_decision_asks_a_person(lake, eventually):
    """Below the threshold: a review request on headwater.reviews, the effects held back, the outcome waiting."""
    gauge = lake.gauge()
    lake.publish(id="extreme", gauge=gauge, metres=4.5)
    [question] = eventually(lambda: lake.events("headwater.reviews", gauge))
    assert question["reason"] == "unsure"
    assert [effect["topic"] for effect in question["effects"]] == ["alarms"]
    [row] = eventually(lambda: lake.sql(f"from decisions where key = '{gauge}' and agent = 'warn' and outcome = 'waiting'"))
    assert row["id"] == question["decision"]
    assert [r["decision"] for r in eventually(lambda: lake.sql(f"from reviews where key = '{gauge}'"))] == [row["id"]]
    assert lake.events("alarms", gauge) == []


def test_one_disruption_is_one_episode(lake, eventually):
    """Opened, updated, closed: three activations of one episode in order, and each agent hears those of its phases."""
    gauge = lake.gauge()
    for metres in (2.1, 2.2, 2.9, 1.5, 0.5):
        lake.publish(id="x", gauge=gauge, metres=metres)
    found = eventually(lambda: len(rows := lake.sql(f"from activations where key = '{gauge}' order by time")) == 3 and rows)
    assert [row["phase"] for row in found] == ["opened", "updated", "closed"]
    assert {row["episode"] for row in found} == {found[0]["id"]}
    decided = eventually(lambda: len(rows := lake.sql(f"from decisions where key = '{gauge}' order by agent, time")) == 5 and rows)
    assert [(row["agent"], row["outcome"]) for row in decided] == [
        ("log", "acted"), ("log", "no_action"), ("log", "acted"), ("warn", "acted"), ("warn", "acted"),
    ]  # fmt: skip


def test_every_decision_is_in_the_journal_once(lake, eventually):
    """Each decision id has one `decided` on the decisions topic, and those that went out one `done`."""
    gauge = lake.gauge()
    lake.publish(id="j", gauge=gauge, metres=2.5)
    eventually(lambda: len(lake.sql(f"from decisions where key = '{gauge}'")) == 2)
    pages = [json.loads(m.value or b"") for m in lake.messages(DECISIONS)]
    entries = [entry for page in pages for entry in (page if isinstance(page, list) else [page])]
    for kind in ("decided", "done"):
        ids = [entry["id"] for entry in entries if entry["entry"] == kind]
        assert len(ids) == len(set(ids)) > 0


def test_the_process_tells_of_itself(lake):
    """healthz, readyz, topics and OpenAPI answer."""
    assert lake.http.get("/healthz").json() == {"status": "ok", "broker": lake.broker, "app": "lake"}
    assert lake.http.get("/readyz").json()["ready"] is True
    assert {topic["name"] for topic in lake.http.get("/v1/topics").json()} >= {"readings", "alarms", "notes"}
    assert "/v1/search" in lake.http.get("/openapi.json").json()["paths"]
    document = lake.http.get("/asyncapi.json").json()
    assert document == lake.http.get("/v1/topics", params={"format": "asyncapi"}).json()
    assert document["channels"]["readings"]["bindings"]["kafka"]["partitions"] == 3
    assert document["servers"]["kafka"]["host"] == lake.up.run.kafka.address


def test_sql_reads_and_nothing_else(lake):
    """SQL beside the running audit flow: a select answers, anything that writes or reads files is refused with a problem."""
    assert lake.sql("select count(*) as n from records")[0]["n"] > 0
    for query in ("drop table records", "copy records to '/tmp/x'", "from read_csv('/etc/passwd')", "select nonsense from"):
        answer = lake.http.post("/v1/sql", json={"query": query})
        assert answer.status_code in (400, 403), (query, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_unknown_ids_are_404(lake):
    """why and decisions of nothing."""
    assert lake.http.get("/v1/why/nothing-of-the-kind").status_code == 404
    assert lake.http.get("/v1/decisions/nothing-of-the-kind").status_code == 404


def test_everything_so_far_is_accounted_for(lake, eventually):
    """After all that happened here: no offence, and positions of `index` end up without anything in flight."""

    def settled():
        verdict = lake.http.get("/v1/verify").json()
        return not verdict["totals"].get("index", {}).get("in_flight") and verdict

    verdict = eventually(settled)
    assert verdict["ok"], verdict["offences"]
    assert verdict["replayed"] == 0


def test_several_searches_at_once(lake):
    """POST /v1/search/batch: each answered in order, of one state of the index that includes what the token names."""
    gauge = lake.gauge()
    token = lake.publish(id="batched", gauge=gauge, metres=0.7)
    searches = [{"text": gauge, "where": {"gauge": gauge}}, {"text": "says batched", "where": {"metres": {"gte": 0.7, "lt": 0.8}}}]
    answer = lake.http.post("/v1/search/batch", json={"searches": searches, "after": [token], "wait": "60s"}).json()
    assert [each["results"][0]["document"] for each in answer["answers"]] == [f"level/{gauge}"] * 2
    assert answer["as_of"] and answer["broker"] == lake.broker and answer["retrying"] == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"where": {"guage": "x"}}, "no document has a field 'guage'; documents have gauge, metres"),
        ({"where": {"metres": "deep"}}, "metres is a number"),
        ({"mode": "fuzzy"}, "hybrid, dense, sparse"),
        ({"rerank": True}, "no reranker"),
    ],
)
def test_wishes_that_cannot_be_granted_are_problems(lake, asked, told):
    """400, naming the fields that documents have, the kind of a field, the modes there are."""
    token = str(lake.up.file_positions[-1])
    lake.search("x", after=[token, lake.publish(id="known", gauge=lake.gauge(), metres=0.7)])
    answer = lake.http.post("/v1/search", json={"text": "x", **asked})
    assert answer.status_code == 400 and told in answer.json()["detail"], answer.text
