"""The rules' head start at a start with something behind: they come before what takes the interpreter from them, and not for ever."""

from types import SimpleNamespace

import msgspec
import polars as pl

from headwater import App, Document, Threshold, Topic, document
from headwater.enrichers.testing import HashEmbedder
from headwater.flows import runtime
from headwater.flows.ends import Ends
from headwater.flows.head_start import head_start
from headwater.flows.meter import Meter
from headwater.flows.settings import Settings
from headwater.flows.sink import Writer, outgoing
from headwater.flows.up import Up
from headwater.lineage.event import Event


class Reading(msgspec.Struct):
    gauge: str
    metres: float = 0.0


def _app(name, root):
    topic = Topic(name, Reading, key="gauge", partitions=2)
    high = Threshold("high", of=topic, value=pl.col("metres"), per="gauge", opens_at=2.0, closes_at=1.0)

    @document(topic)
    def level(reading, facts):
        return Document(id=reading.gauge, text=f"{reading.gauge} stands at {reading.metres}")

    return App(name, documents=[level], triggers=[high], root=root), topic


def _publish(kafka, topic, numbers):
    events = [Event(id=f"{n}", source="test", type=topic.name, time=n, data=topic.encode(Reading(f"g{n % 8}", n % 5))) for n in numbers]
    writer = Writer(kafka, kafka.broker_id())
    try:
        return writer.write([outgoing(topic.name, event, f"g{int(event.id) % 8}", int(event.id) % 2) for event in events])
    finally:
        writer.close()


def test_the_rules_have_dealt_with_what_lay_there_before_the_index_is_opened(kafka, name, tmp_path, monkeypatch):
    """At a start with events behind it, and at one with none, the index is opened once the rules have come to the ends.

    Of lineage, one that lands nothing knows how far it is, too, so that its stop waits for nothing.
    """
    app, topic = _app(name, tmp_path)
    kafka.create({topic.name: 2})
    monkeypatch.setattr(head_start, "__defaults__", (60.0,))
    seen, ends, landed = [], {}, {}
    opening = runtime.open_index

    def opened(*args):
        seen.append(up.run.meter.counts()["seen by rules"] if numbers else {*ends} <= {*up.run.ends._ended})
        return opening(*args)

    monkeypatch.setattr(runtime, "open_index", opened)
    settings = Settings(home=tmp_path / "home", kafka=dict(kafka.properties))
    for numbers in (range(200), range(200, 300), ()):
        ends |= {(place.topic, place.partition): place.offset + 1 for place in _publish(kafka, topic, numbers)}
        up = Up(app, settings, flows=("index", "detect", "audit"), http=False, embedder=HashEmbedder())
        with up:
            assert up.run.meter.await_reached("index", ends if numbers else {}, 60)
        assert all(up.run.meter.come("audit")[place] >= next for place, next in landed.items())
        landed = up.run.meter.come("audit")
    assert seen == [200, 100, True]


def test_the_others_wait_for_the_rules_so_long_and_no_longer():
    """Rules that do not come to the end in time hold nobody; one partition that was read to its end is not waited for again."""
    ends, places = Ends(lambda: 1), SimpleNamespace(places=lambda topics: [("t", 0), ("t", 1)])
    run = SimpleNamespace(meter=Meter(), ends=ends, partitions=places, app=SimpleNamespace(watched={"t": None}))
    ends.begun("t", 0, 5)
    ends.at_end("t", 0, 5)
    ends.begun("t", 1, 0)
    ends.at_end("t", 1, 3)  # the source has handed on three that the rules have not seen
    assert not head_start(run, 0.05)
    run.meter.reached("detect", "t", 1, 3)
    assert head_start(run, 60.0)
