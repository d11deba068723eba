import io
import re

import msgspec
import pytest
from rich.console import Console

from headwater.lineage.prov import prov_of
from headwater.lineage.queries import life, why
from headwater.lineage.seen import DocumentSeen, EventSeen, Life, Why
from headwater.lineage.show import cell, life_line, why_html, why_tree
from headwater.lineage.store import Store
from headwater.lineage.testing import BROKER, landings, name, sample_records, verdict


@pytest.fixture(scope="module")
def store():
    with Store(":memory:", clock=lambda: 1) as opened:
        opened.land(landings(sample_records()))
        yield opened


def text_of(renderable):
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def test_the_tree_tells_the_whole_decision(store):
    """A decision's tree names choice, activation, newest events, chunks with the choice without them, options, effect."""
    text = text_of(why_tree(why(store, name("decision"))))
    for part in (
        'recover@1 chose "rebook passengers" (0.81) for EWR', "woken by  cancellations/EWR opened 8 Feb 12:00", "12 of 41",
        "flights/0@11  United flight UA 1511 is cancelled.", "… 9 more", "0.71  procedures/rebooking.md",
        'without it → 0.44 "keep watching"',
        "without it → 0.79 same choice", "rebook passengers 0.81 · hold departures at the gate 0.14 · keep watching 0.05",
        "did       plans/0@17", "called    weather(airport='EWR') → {\"snow\": \"<b>deep</b>\"}",
    ):  # fmt: skip
        assert part in text


EVERY = ["flights/0@3", "flights/0@12", "2013-02-08-EWR-UA-1500", name("activation"), name("effect"), "headwater.activations/0@0"]


@pytest.mark.parametrize("id", EVERY)
def test_every_kind_has_a_tree_and_a_page(store, id):
    """Whatever is asked for is shown, as a tree and as a page."""
    found = why(store, id)
    assert len(text_of(why_tree(found)).splitlines()) > 1
    assert found.id in why_html(found)


def test_every_enricher_that_was_read_is_shown(store):
    """A document's line names them all, a long name cut by itself, so that none hides those after it."""
    rating = f"https://ratings.example/{'v1/' * 40}{{id}}"
    reads = {"maker": "makers.csv#f34ef94b536b", "rating": rating, "before": ["products/0@3", "products/0@1"]}
    document = DocumentSeen(id="product/p1", version=1, outcome="indexed", event="e", position="", text="Kettle", reads=reads)
    found = msgspec.structs.replace(why(store, "flights/0@3"), documents=[document])
    told = " ".join(text_of(why_tree(found)).replace("│", " ").split())
    assert "facts: maker ← makers.csv#f34ef94b536b, rating ← https://ratings.example/v1/" in told
    assert 'before ← ["products/0@3", "products/0@1"]' in told


def test_a_long_name_is_cut_in_the_tree(store):
    """A key of 300,000 characters takes no more than its line wherever it stands; what can be read of it is its beginning."""
    long = "g" * 300_000
    found = why(store, name("decision"))
    [decision] = found.decisions
    [saw, *_] = decision.retrievals
    chunk = msgspec.structs.replace(saw.results[0], document=f"level/{long}")
    activation = msgspec.structs.replace(decision.activation, key=long, events=(EventSeen(position="", short="r/0@1", key=long),))
    saw = msgspec.structs.replace(saw, query=long, results=(chunk,))
    decision = msgspec.structs.replace(decision, activation=activation, retrievals=(saw,))
    document = DocumentSeen(id=f"level/{long}", version=1, outcome="indexed", event="e", position="", text=long)
    told = text_of(why_tree(Why(id=f"level/{long}", kind="document", documents=(document,), decisions=(decision, decision))))
    assert "level/ggg" in told and len(told) < 10_000


def test_numbers_of_frames_have_no_exponent():
    """Sums are told as whole numbers are; what is small keeps four digits."""
    assert [cell(value) for value in (239_043.2, 12_230.0, -55_060.4, 923.04, 0.63412, 1e20)] == [
        "239043", "12230", "-55060", "923", "0.6341", "1e+20",
    ]  # fmt: skip


def test_a_review_is_shown():
    """A decision that waits shows the question asked of a person."""
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(sample_records(state="waiting")))
        found = why(store, name("decision"))
    assert "Rebook passengers of EWR?" in text_of(why_tree(found)) and "Rebook passengers of EWR?" in why_html(found)


def test_a_fallback_is_named_with_its_own_version(store):
    """Who decided is told, not only whose turn it was: the version is the fallback's."""
    found = why(store, name("decision"))
    by = msgspec.structs.replace(found.decisions[0], by="by_the_book", version="7")
    found = msgspec.structs.replace(found, decisions=(by,))
    assert "recover's fallback by_the_book@7 chose" in text_of(why_tree(found))
    assert "recover&#39;s fallback by_the_book@7" in why_html(found)
    assert any(each["prov:label"] == "by_the_book" for each in prov_of(found)["agent"].values())


def test_rulings_are_shown(store):
    """What was allowed stands on one line, what was refused with the policy that spoke."""
    found = why(store, name("decision"))
    assert "allowed   publish topic:plans" in text_of(why_tree(found))
    (ruling,) = found.decisions[0].rulings
    refused = msgspec.structs.replace(found.decisions[0], rulings=({**ruling, "allowed": False},))
    text = text_of(why_tree(msgspec.structs.replace(found, decisions=(refused,))))
    assert "refused   publish topic:plans by declared" in text and "allowed" not in text


def test_a_verdict_that_did_not_count_is_shown():
    """A review that waits on tells who answered it and why that did not count."""
    said = verdict("approved")
    refused = msgspec.structs.replace(said, id="another", data={**said.data, "accepted": False, "refused": "<no> such topic"})
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings([*sample_records(state="waiting"), refused]))
        found = why(store, name("decision"))
    assert "not counted  approved by ada: <no> such topic" in text_of(why_tree(found))
    assert "not counted: approved by ada: &lt;no&gt; such topic" in why_html(found) and "not answered yet" in why_html(found)


def test_the_page_is_self_contained_and_escapes(store):
    """The page loads nothing from outside, and what events say cannot become markup."""
    found = why(store, name("decision"))
    evil = msgspec.structs.replace(found.decisions[0], summary="<script>alert(1)</script>", rationale='"><img src=x>')
    page = why_html(msgspec.structs.replace(found, decisions=(evil,)))
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", why_html(found))


def test_versions_of_one_minute_are_told_apart():
    """A version that is a time is told as exactly as it is; one that is a number as it is."""
    minute = 1_795_953_960_000_000
    told = [why_html(Why(id="d", kind="document", documents=(seen(minute + more),))) for more in (0, 1_000_000, 1_500_000, 1_500_001)]
    for page, version in zip(told, ("12:06<", "12:06:01<", "12:06:01.5<", "12:06:01.500001<"), strict=True):
        assert f"2026-11-29 {version}" in page
    assert ">17<" in why_html(Why(id="d", kind="document", documents=(seen(17),)))


def seen(version):
    return DocumentSeen(id="product/p1", version=version, outcome="indexed", event="e", position="", text="Kettle")


def test_the_page_tells_what_the_model_was_asked(store):
    """Steps of a decision: the model, what it was asked in full and escaped, and its answer."""
    decided = why(store, name("decision")).decisions[0]
    asked = {"model": "local", "prompt": {"situation": "<b>snow</b>"}, "answer": {"response": "rebook"}}
    page = why_html(Why(id=decided.id, kind="decision", decisions=(msgspec.structs.replace(decided, models=(asked,)),)))
    assert "Asked the model" in page and "&lt;b&gt;snow&lt;/b&gt;" in page and "<b>snow" not in page and "rebook" in page


def test_a_life_in_one_line(store):
    """One event's life reads as stages with the time between them."""
    place = f"{BROKER}/flights/0/11"
    line = life_line(life(store, place), place).plain
    assert line == "flights/0@11 ── 41 ms ── searchable ── 22 ms ── activation ── 96 ms ── decision ── 8 ms ── published"


@pytest.mark.parametrize("lived", [True, False])
def test_each_life_of_a_dead_letter_is_told_once(lived):
    """Where lives tell of an event and its dead letters, nothing else does; its id and what it knew stand with its life."""
    places = {f"b/t/0/{n}": f"t/0@{n}" for n in range(2)}
    events = [EventSeen(position=at, short=short, id="x-1", outcomes={"index": "dead_lettered"}) for at, short in places.items()]
    letters = [{"id": f"{n}dead1f-33ef", "cause": "invalid", "error": "no number"} for n in range(2)]
    steps = [("index: dead lettered", f"index: dead letter {letter['id'][:8]}, invalid: no number") for letter in letters]
    lives = [Life(position=at, short=short, steps=one) for (at, short), one in zip(places.items(), steps, strict=True)]
    told_of = {"events": tuple(events), "dead_letters": tuple(letters), "lives": tuple(lives) if lived else ()}
    found = Why(id=letters[0]["id"], kind="dead_letter", **told_of)
    told = text_of(why_tree(found))
    assert [told.count(short) for short in places.values()] == [1, 1]
    assert told.count("x-1") == 2
    assert told.count("no number") == 2
    assert why_html(found).count("no number") == 2
