"""The picture of a decision: everything on its path is in it, whatever texts hold, and it needs neither script nor network."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.lineage.newest import newest_versions
from headwater.lineage.picture import HIGH, LETTERS, MOST, WIDE, picture_of
from headwater.lineage.record import fact
from headwater.lineage.seen import ChunkSeen, Option, Retrieval, Why
from headwater.lineage.show import why_html
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import BROKER, landings, name, sample_records
from headwater.lineage.why import why


@pytest.fixture(scope="module")
def store():
    with Store(":memory:", clock=lambda: 1) as opened:
        opened.land(landings(sample_records()))
        yield opened


@pytest.fixture(scope="module")
def decision(store):
    return why(store, name("decision")).decisions[0]


def svg_of(page):
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", page, re.S)[0])


def test_the_page_draws_the_path_from_events_to_effects(store, decision):
    """Columns in the order of the walk; the choice, the rule, the evidence and the effect are boxes; nothing runs or is fetched."""
    page = why_html(why(store, decision.id))
    texts = [text.text for text in svg_of(page).iter("text")]
    assert [text for text in texts if text in ("events", "rule", "seen", "choice", "done")] == ["events", "rule", "seen", "choice", "done"]
    assert {decision.summary, "cancellations/EWR", "plans", "procedures/rebooking.md"} <= set(texts)
    assert "<script" not in page and "http" not in page and "javascript" not in page


def test_evidence_without_which_the_choice_differs_stands_out(decision):
    """Its box says what would have been chosen, and its line to the choice is drawn strongly."""
    boxes = {box.head: box for box in picture_of(decision).boxes}
    assert (boxes["procedures/rebooking.md"].tone, boxes["procedures/rebooking.md"].foot) == ("warn", "else: keep watching")
    assert sum(line.tone == "used" for line in picture_of(decision).lines) == 2


@given(st.lists(st.text(), max_size=12), st.text(), st.text())
def test_boxes_fit_and_never_lie_on_one_another(decision, documents, summary, rationale):
    """However many and however long: at most a few boxes per column, all inside the picture, texts cut, the page well-formed."""
    chunks = tuple(
        ChunkSeen(id=str(n), document=text, version=1, section="", text=text, score=n / 20, position="", used=n % 2 == 0,
                  without=Option(text, 0.5) if n % 3 == 0 else None)
        for n, text in enumerate(documents)
    )  # fmt: skip
    odd = msgspec.structs.replace(
        decision, summary=summary, rationale=rationale, retrievals=(Retrieval(query="q", at=1, staleness_ms=0, as_of={}, results=chunks),)
    )
    picture = picture_of(odd)
    assert all(0 <= box.x <= picture.wide - WIDE and 0 < box.y <= picture.high - HIGH for box in picture.boxes)
    assert all(len(box.head) <= LETTERS and len(box.foot) <= LETTERS for box in picture.boxes)
    places = [(box.x, box.y) for box in picture.boxes]
    columns = {x: sorted(y for at, y in places if at == x) for x, _ in places}
    assert all(len(ys) <= MOST and all(b - a >= HIGH for a, b in pairwise(ys)) for ys in columns.values())


def test_hostile_texts_are_escaped_in_the_picture(store, decision):
    """What events said is text in the picture, in its tips and in its label, and never markup."""
    hostile = '"><script>alert(1)</script><b x="'
    found = why(store, decision.id)
    odd = msgspec.structs.replace(decision, summary=hostile, rationale=hostile)
    page = why_html(msgspec.structs.replace(found, decisions=(odd,)))
    assert "<script" not in page and hostile in [title.text for title in svg_of(page).iter("title")]


def test_versions_then_and_now(store, decision):
    """A document that was superseded since is told with the version it has now; one that was refused as stale changes nothing."""
    shown = next(chunk for retrieval in decision.retrievals for chunk in retrieval.results if chunk.document.startswith("flight_status/"))
    newer = [
        fact("document", "index", "upsert", shown.document, logged=9, ordinal=version, outcome=outcome, data={"version": version})
        for version, outcome in [(7, "indexed"), (8, "stale")]
    ]
    assert "still so" in why_html(why(store, decision.id))
    with Store(":memory:", clock=lambda: 1) as later:
        later.land(landings(sample_records()))
        later.land([Landing(BROKER, 0, 10**6, newer)])
        found = why(later, decision.id)
        with later.cursor() as cursor:
            assert newest_versions(cursor, [shown.document]) == {shown.document: 7} == found.newest
        assert "now 7" in why_html(found)


def test_the_page_names_the_trace(decision):
    """Who has the page finds the decision in the collector; a record from before there were traces has none, and says nothing."""
    traced = msgspec.structs.replace(decision, trace="4bf92f3577b34da6a3ce929d0e0e4736")
    pages = [why_html(Why(id=each.id, kind="decision", decisions=(each,))) for each in (traced, decision)]
    assert [("trace <code>" in page) for page in pages] == [True, False]
