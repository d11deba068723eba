"""Where enrichers have their facts from, from the event to the answer of `why`."""

import io

import polars as pl
import pytest
from pydantic import BaseModel
from rich.console import Console

from headwater import App, Document, Lookup, Threshold, Topic
from headwater.enrichers.document import DocumentType
from headwater.flows.testing import walk
from headwater.lineage.queries import why
from headwater.lineage.show import why_html, why_tree
from headwater.lineage.store import Store
from headwater.lineage.testing import landings


class Reading(BaseModel):
    gauge: str
    metres: float


@pytest.fixture
def walked(tmp_path):
    (tmp_path / "gauges.csv").write_text("gauge,lake\nmole,<Erie>\n")
    readings = Topic("readings", Reading, key="gauge", partitions=1, enrich={"place": Lookup(str(tmp_path / "gauges.csv"), on="gauge")})
    high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", opens_at=2.0, closes_at=1.0)
    kind = DocumentType("level", readings, lambda reading, facts: Document(reading.gauge, f"{reading.metres} m, {facts['place']['lake']}"))
    app = App("lake", documents=[kind], triggers=[high], root=tmp_path)
    return walk(app, [(readings, Reading(gauge="mole", metres=1.5)), (readings, Reading(gauge="mole", metres=3.0))])


def test_an_activation_tells_what_the_enrichers_of_its_events_read(walked):
    """The file with its digest, under the place of the event that fired; the same as the event's document has."""
    [fired] = [record for record in walked.records if record.kind == "activation"]
    [document] = [record for record in walked.records if record.kind == "document" and record.first == 1]
    assert fired.data["reads"] == {"readings/0@1": document.data["reads"]}
    assert document.data["reads"]["place"].startswith("gauges.csv")


def test_why_shows_what_was_read(walked):
    """On the way from an activation and from an event, in data, as a tree, and as a page."""
    [activation] = walked.activations
    with Store(":memory:", clock=lambda: 1) as store:
        store.land(landings(walked.records))
        found = why(store, activation.id)
        [event] = found.activations[0].events
        assert event.reads["place"].startswith("gauges.csv")
        assert why(store, "event-1").documents[0].reads == event.reads
    console = Console(file=io.StringIO(), width=200)
    console.print(why_tree(found))
    assert "facts: place ← gauges.csv" in console.file.getvalue()
    assert f"facts: place ← {event.reads['place']}" in why_html(found)
