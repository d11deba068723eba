"""Reviews of a running application: listed, answered by program, page and command, and carried out once."""

import html
import json
import os
import re
from pathlib import Path

import browser
import pytest
from typer.testing import CliRunner

from headwater.flows.cli import cli
from headwater.flows.reviews import Reviews
from headwater.lineage.event import Event
from headwater.lineage.topic import REVIEWS


@pytest.fixture
def asked(lake, eventually):
    """Makes `warn` unsure of a new gauge: gives the gauge and the review that waits."""

    def ask():
        gauge = lake.gauge()
        lake.publish(id=f"{gauge}-flood", gauge=gauge, metres=5)
        (review,) = eventually(lambda: lake.http.get("/v1/reviews", params={"key": gauge}).json()["reviews"])
        return gauge, review

    return ask


def ended(lake, review):
    return [row["outcome"] for row in lake.sql(f"SELECT outcome FROM records WHERE kind = 'outcome' AND ref = '{review['decision']}'")]


def test_an_approved_review_is_carried_out_once(lake, asked, eventually):
    """Approved over HTTP: the held alarm goes out once under its effect id, its activation ends as approved, `why` says who said so."""
    gauge, review = asked()
    assert (review["state"], review["reason"], review["agent"]) == ("waiting", "unsure", "warn")
    assert review["effects"][0]["target"] == "alarms" and lake.events("alarms", gauge) == []
    answer = lake.http.post(f"/v1/reviews/{review['id']}/verdict", json={"verdict": "approved", "by": "Ada", "reason": "I see it"})
    assert answer.status_code == 202 and answer.json()["token"].startswith(lake.broker)
    again = lake.http.post(f"/v1/reviews/{review['id']}/verdict", json={"verdict": "declined", "by": "Bob"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:headwater:closed")
    eventually(lambda: "approved" in ended(lake, review))
    assert ended(lake, review) == ["waiting", "approved"]
    assert lake.events("alarms", gauge) == [review["choice"]]
    told = lake.http.get(f"/v1/reviews/{review['id']}").json()["review"]
    assert (told["state"], told["by"], told["why"]) == ("approved", "Ada", "I see it")
    why = lake.http.get(f"/v1/why/{review['decision']}").json()["decisions"][0]
    assert why["outcome"] == "approved" and why["reviews"][0]["by"] == "Ada" and why["effects"][0]["state"] == "done"


def test_another_choice_is_published(lake, asked, eventually):
    """A verdict with a choice of its own publishes that; one that the topic does not take is told at once, and it waits."""
    gauge, review = asked()
    where = f"/v1/reviews/{review['id']}/verdict"
    wrong = {"verdict": "approved", "by": "Ada", "choice": {"response": "pray", "gauge": gauge, "mark": "x"}}
    told = lake.http.post(where, json=wrong)
    assert told.status_code == 422 and "does not fit the topic alarms" in told.json()["detail"]
    choice = {"response": "send a crew", "gauge": gauge, "mark": "by hand"}
    assert lake.http.post(where, json={**wrong, "choice": choice}).status_code == 202
    eventually(lambda: "approved" in ended(lake, review))
    assert lake.events("alarms", gauge) == [choice]


def test_another_choice_is_published_from_the_page(lake, asked, eventually):
    """The form shows the choice to edit: what is no JSON, or does not fit, is told; unchanged it is the agent's own."""
    gauge, review = asked()
    where = f"/reviews/{review['id']}"
    page = lake.http.get("/reviews").text
    form = page[page.index(f'action="{where}"') :]
    token = re.search(r'name="token" value="(\w+)"', form).group(1)
    shown = html.unescape(re.search(r'<textarea name="choice"[^>]*>([^<]*)</textarea>', form).group(1))
    assert json.loads(shown) == review["choice"]
    given = {"token": token, "by": "Ada", "verdict": "approved"}
    for wrong, why in (("{", "no JSON"), ('{"response": "pray"}', "does not fit the topic alarms")):
        answer = lake.http.post(where, data={**given, "choice": wrong})
        assert answer.status_code == 422 and why in html.unescape(answer.text)
    choice = {**review["choice"], "mark": "by hand"}
    assert lake.http.post(where, data={**given, "choice": json.dumps(choice)}).status_code == 303
    eventually(lambda: "approved" in ended(lake, review))
    assert lake.events("alarms", gauge) == [choice]


def test_a_verdict_that_decide_refuses_leaves_the_review_waiting(lake, asked, eventually, monkeypatch):
    """What only `decide` can know not to fit is recorded as refused; another verdict may be given."""
    gauge, review = asked()
    where = f"/v1/reviews/{review['id']}/verdict"
    with monkeypatch.context() as patch:
        patch.setattr(Reviews, "_fits", lambda *known: None)
        wrong = {"verdict": "approved", "by": "Ada", "choice": {"response": "pray", "gauge": gauge, "mark": "x"}}
        assert lake.http.post(where, json=wrong).status_code == 202
    refused = f"SELECT data->>'$.refused' AS why FROM records WHERE kind = 'verdict' AND ref = '{review['id']}'"
    assert "does not fit the topic alarms" in eventually(lambda: lake.sql(refused))[0]["why"]
    eventually(lambda: lake.http.post(where, json={"verdict": "declined", "by": "Ada"}).status_code == 202)
    eventually(lambda: "declined" in ended(lake, review))


def test_the_page_answers_a_review(lake, asked, eventually):
    """The page shows what is asked, escaped, and its form, sent without any script, declines it; its answer allows no script at all."""
    gauge, review = asked()
    page = lake.http.get("/reviews")
    assert page.status_code == 200 and review["id"] in page.text and "&#39;" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"] and "<script" not in page.text
    token = re.search(rf'action="/reviews/{review["id"]}">\s*<input type="hidden" name="token" value="(\w+)"', page.text).group(1)
    form = {"token": token, "by": "Ada", "reason": "<b>no</b>", "verdict": "declined"}
    answer = lake.http.post(f"/reviews/{review['id']}", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/reviews?said=declined")
    assert review["id"] not in lake.http.get("/reviews").text
    eventually(lambda: "declined" in ended(lake, review))
    assert lake.events("alarms", gauge) == []
    assert lake.http.post(f"/reviews/{review['id']}", data=form).status_code == 409


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here; name one in HEADWATER_TEST_CHROMIUM")
def test_a_person_answers_in_a_browser(lake, asked, eventually, tmp_path):
    """In a real browser the page is styled under its own policy, its form is filled in and sent, and what was held back happens."""
    gauge, review = asked()
    with browser.tab(tmp_path) as page:
        page.go(f"{lake.up.address}/reviews")
        form = f"document.querySelector('form[action=\"/reviews/{review['id']}\"]')"
        assert gauge in page.run(f"{form}.closest('article, section, li, div').innerText")
        assert page.run("document.styleSheets.length") == 1 and page.run("document.styleSheets[0].cssRules.length") > 3
        page.run(f"{form}.elements['by'].value = 'Ada'; {form}.elements['reason'].value = 'I have looked'; 1")
        if picture := os.environ.get("HEADWATER_TEST_PICTURES"):
            page.picture(Path(picture) / "reviews.png")
        page.run(f"{form}.querySelector('button[value=approved]').click()")
        assert "Approved" in page.until("location.search === '?said=approved' && document.body.innerText")
        assert not page.run(f"!!{form}")
    eventually(lambda: "approved" in ended(lake, review))
    assert lake.events("alarms", gauge) == [review["choice"]]


def test_other_sites_cannot_answer(lake, asked):
    """A form of another site, one without this page's token, and a foreign host name are refused; the review waits on."""
    _, review = asked()
    where = f"/reviews/{review['id']}"
    form = {"by": "Eve", "verdict": "approved", "token": "x"}
    assert lake.http.post(where, data=form).status_code == 403
    said = {"verdict": "approved", "by": "Eve"}
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"host": "evil.example"}):
        assert lake.http.post(f"/v1{where}/verdict", json=said, headers=headers).status_code == 403
    assert lake.http.get("/reviews", headers={"host": "evil.example"}).status_code == 403
    assert lake.http.get(f"/v1{where}").json()["review"]["state"] == "waiting"


def test_malformed_verdicts_are_problems(lake, asked):
    """Who gives no name, an unknown word, or answers what nobody asked is told so."""
    _, review = asked()
    where = f"/v1/reviews/{review['id']}/verdict"
    for body in ({"verdict": "maybe", "by": "Ada"}, {"verdict": "approved"}, {"verdict": "approved", "by": " "}, {}):
        assert lake.http.post(where, json=body).status_code == 422
    assert lake.http.post(where, json={"verdict": "declined", "by": "Ada", "choice": {"a": 1}}).status_code == 422
    assert lake.http.post("/v1/reviews/0123456789/verdict", json={"verdict": "declined", "by": "Ada"}).status_code == 404
    assert lake.http.get("/v1/reviews", params={"state": "open"}).status_code == 400


def test_the_command_answers_a_review(lake, asked, eventually):
    """`headwater reviews list` shows it, `approve` carries it out by a beginning of its id."""
    gauge, review = asked()
    url = ["--url", lake.up.address]
    listed = CliRunner().invoke(cli, ["reviews", "list", "--key", gauge, "--json", *url])
    assert [row["id"] for row in json.loads(listed.stdout)] == [review["id"]]
    assert "waiting" in CliRunner().invoke(cli, ["reviews", "list", "--key", gauge, *url]).stdout
    done = CliRunner().invoke(cli, ["reviews", "approve", review["id"][:8], "--by", "Ada", *url])
    assert done.exit_code == 0 and "approved by Ada" in done.stdout
    eventually(lambda: "approved" in ended(lake, review))


def test_what_is_no_verdict_is_a_dead_letter(lake, eventually):
    """A message on the topic of reviews that is neither question nor verdict is buried with its cause, and the flow goes on."""
    from headwater.flows.sink import outgoing

    bad = Event(id="bad-verdict", source="test", type="headwater.review.judged", time=1, data=b'{"review": 3}')
    (where,) = lake.up.run.writer.write([outgoing(REVIEWS, bad)])
    rows = eventually(lambda: lake.http.get("/v1/dead", params={"topic": REVIEWS}).json()["dead_letters"])
    assert [(row["cause"], row["event"]) for row in rows if row["position"] == str(where)] == [("invalid", "bad-verdict")]


def test_conservation_counts_reviews(lake, asked):
    """Law 1: with verdicts given and questions open, verification finds no offence."""
    asked()
    verdict = lake.http.get("/v1/verify").json()
    assert verdict["ok"], verdict["offences"]
