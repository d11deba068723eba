"""Standing queries: against a definition over texts, told as a story, and where the embedder is slow."""

import random
import threading
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater import App, Delete, Document, Standing, Threshold, Topic, When, document
from headwater.agents.detect import Detector
from headwater.agents.meaning import Meaning
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.detecting import DetectLogic
from headwater.flows.ends import Ends
from headwater.flows.meter import Meter
from headwater.flows.signalling import Signalled
from headwater.flows.weighing import Weigher
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import Misused, Unavailable
from headwater.lineage.event import Event, Position
from headwater.testing import walk

S = 1_000_000
WORDS = ("oil", "on", "the", "water", "ship", "late", "calm", "fuel")


class Report(msgspec.Struct):
    port: str
    text: str
    grave: bool = True


class Notice(msgspec.Struct):
    port: str


reports = Topic("reports", Report, partitions=2, lateness="1s")
notices = Topic("notices", Notice, lateness="1s")


@document(reports)
def report(one: Report, facts: Any) -> Document | Delete | None:
    if one.text == "fails":
        raise ValueError(one.text)
    return None if one.text == "none" else Delete(one.port) if one.text == "gone" else Document(one.port, one.text)


spill = Standing("spill", of=report, like="oil on the water", similarity=0.6, where=pl.col("grave"), within="10s", per="port",
                 unless=When(notices, per="port"), update_step=1)  # fmt: skip


def told(topic: str, partition: int, offset: int, second: float, model: Any) -> Received:
    kind = MARK if model is None else "t"
    return Received(Position("b", topic, partition, offset), Event(id=f"{topic}{partition}{offset}", source="t", type=kind,
                    time=round(second * S)), model, 0)  # fmt: skip


def fire(
    detector: Detector, meaning: Meaning, batches: list[list[Received]], restart: bool = False
) -> list[tuple[str, str, float, int, int]]:
    state, fired = detector.start(0), []
    for batch in batches:
        signals = detector.signals(batch, batch[0].position.topic)
        fired += detector.step(state, detector.weighed(signals, detector.near(signals, meaning)), 0).activations
        if restart:
            state = detector.restore(detector.snapshot(state), 0)
    return [(one.key, one.phase, one.at / S, one.value, one.count) for one in fired]


@settings(max_examples=60, deadline=None)
@given(many=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_it_fires_as_its_definition_says(many: int, seed: int) -> None:
    """Similar, the predicate, the window and nothing that cancels, computed anew from the whole past; whatever batches and restarts."""
    dice, embedder, clock = random.Random(seed), HashEmbedder(), 0.0
    events: list[Received] = []
    offsets = {("reports", 0): 0, ("reports", 1): 0, ("notices", 0): 0}
    for _ in range(many):
        clock += dice.choice([0.25, 0.5, 2, 7])
        topic, partition = dice.choice([*offsets, ("reports", 0), ("reports", 1)])
        text = dice.choice(["none", "gone", "fails", *(" ".join(dice.sample(WORDS, 4)) for _ in range(6)), "oil on the water"])
        port = dice.choice("ab")
        model = Notice(port) if topic == "notices" else Report(port, text, dice.random() < 0.8)
        events.append(told(topic, partition, offsets[topic, partition], clock, model))
        offsets[topic, partition] += 1
    marks = [told(topic, partition, offset, 10**6, None) for (topic, partition), offset in offsets.items()]
    places = [[one for one in (*events, *marks) if one.position[1:3] == place] for place in offsets]
    cut = dice.randint(1, 5)
    batches = [place[n : n + cut] for place in places for n in range(0, len(place), cut)]
    detector = Detector([reports, notices], [spill], idle=False)
    assert sorted(fire(detector, Meaning(embedder), batches, dice.random() < 0.5)) == sorted(expected(events, embedder))


def expected(events: list[Received], embedder: HashEmbedder) -> list[tuple[str, str, float, float, int]]:
    fired = []
    situation = embedder.embed([spill.like])[0]
    for port in "ab":
        near: list[float] = []
        running, reported = False, 0
        for one in [one for one in events if one.model.port == port]:
            at = one.event.time / S
            if near and near[-1] + 10 < at:
                fired += [(port, "closed", near[-1] + 10, 0.0, 0)] if running else []
                near, running = [], False
            if one.position.topic == "notices":
                fired += [(port, "closed", at, 0.0, 0)] if running else []
                near, running = [], False
                continue
            if one.model.text in ("none", "gone", "fails") or not one.model.grave:
                continue
            cosine = round(float(situation @ embedder.embed([one.model.text])[0]), 6)
            if cosine < 0.6:
                continue
            near = [*(before for before in near if before > at - 10), at]
            if not running or len(near) - reported >= 1:
                fired.append((port, "updated" if running else "opened", at, cosine, len(near)))
                running, reported = True, len(near)
        fired += [(port, "closed", near[-1] + 10, 0.0, 0)] if running else []
    return fired


def test_a_story_in_memory() -> None:
    """Triggers by meaning in an application: near words open, others do not, a notice closes."""
    app = App("harbour", documents=[report], triggers=[spill])
    said = ["the ship is late", "oil on the water again", "calm"]
    events: list[Any] = [(reports, Report("a", text), f"2030-01-01T00:00:0{n}Z") for n, text in enumerate(said)]
    events += [(notices, Notice("a"), "2030-01-01T00:00:05Z"), (notices, Notice("b"), "2030-01-01T00:01:00Z")]
    assert [(one.phase, f"{one.when:%S}", one.count) for one in walk(app, events).activations] == [("opened", "01", 1), ("closed", "05", 0)]
    with pytest.raises(Misused, match=r"rule 'spill' asks for documents of type 'report'; name it among the App's documents"):
        App("harbour", triggers=[spill])


@pytest.mark.parametrize(
    ("wrong", "says"), [({"like": " "}, "like is empty"), ({"similarity": 1.1}, "is a cosine"), ({"of": reports}, "@document")]
)
def test_a_wrong_declaration_is_refused(wrong: dict[str, Any], says: str) -> None:
    """Named: the rule, the argument, the remedy."""
    with pytest.raises(Misused, match=f"rule spill: .*{says}"):
        Standing("spill", **{"of": report, "like": "x", "similarity": 0.5, "within": "1h", **wrong})


class Held(HashEmbedder):
    """An embedder that answers when it is let, and until then refuses or waits."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.refuses, self.texts = threading.Event(), 1, 0

    def embed(self, texts: Any) -> Any:
        self.free.wait(30)
        if self.refuses:
            self.refuses -= 1
            raise Unavailable("not now")
        self.texts += len(texts)
        return super().embed(texts)


def test_a_slow_embedder_holds_only_who_asks_for_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 6: other topics' rules go on meanwhile; what waits is in the snapshot, and told after a restart, each position once, in order."""
    monkeypatch.setattr("headwater.flows.weighing.FIRST_PAUSE_S", 0.01)
    other = Topic("other", Report)
    long = Threshold("long", of=other, value=pl.col("text").str.len_chars(), per="port", opens_at=3, closes_at=1)
    embedder, now = Held(), 10**6 * S
    weigher = Weigher(lambda: Meaning(embedder), threading.Event())
    run = SimpleNamespace(clock=lambda: now, ends=Ends(lambda: now), far_ahead={}, meter=Meter(), ending=threading.Event(),
                          partitions=SimpleNamespace(count=lambda name: 1), weigher=weigher)  # fmt: skip
    asks, free = Detector([reports, notices], [spill]), Detector(other, [long])
    known = {one.name: one for one in (asks, free)}

    def read(detector: Detector, batch: list[Received]) -> Signalled:
        return Signalled(detector.signals(batch, batch[0].position.topic), batch[0].position.partition, batch[-1].position.offset + 1, [])

    slow, quick = DetectLogic(run, known, None), DetectLogic(run, known, None)
    batch = [told("reports", 0, n, n, Report("a", text)) for n, text in enumerate(["oil on the water", "calm", "oil on the water"])]
    assert not any(one.activations or one.reached for one in slow.on_batch([read(asks, batch)])[0])
    others = [told("reports", 1, 0, 50, None), told("reports", 0, 3, 50, None), told("notices", 0, 0, 50, None)]
    assert not any(one.reached for one in slow.on_batch([read(asks, [one]) for one in others])[0])
    assert sum(len(one.activations) for one in quick.on_batch([read(free, [told("other", 0, 0, 1, Report("a", "fire"))])])[0]) == 1
    again = DetectLogic(run, known, slow.snapshot())
    embedder.free.set()
    detected: list[Any] = []
    for _ in range(1000):
        detected += again.on_notify()[0]
        if len([one for one in detected if one.reached]) == 4:
            break
        threading.Event().wait(0.01)
    ended = [
        (one.topic, one.partition, at)
        for each in detected
        for one in each.records
        if one.kind == "outcome"
        for at in range(one.first, one.next)
    ]
    assert sorted(ended) == [("notices", 0, 0), *(("reports", 0, n) for n in range(4)), ("reports", 1, 0)]
    assert sum(len(each.activations) for each in detected) == 3
    weigher.close()


def test_texts_are_embedded_once_and_a_refused_one_is_near_nothing() -> None:
    """The cache answers for what was seen; one text that the embedder refuses does not take the others with it, but a dead one says so."""

    class Picky(HashEmbedder):
        asked = 0

        def embed(self, texts: Any) -> Any:
            self.asked += len(texts)
            if any("calm" in text for text in texts):
                raise ValueError("not this one")
            return super().embed(texts)

    embedder = Picky()
    meaning, detector = Meaning(embedder), Detector([reports, notices], [spill])
    batch = detector.signals(
        [told("reports", 0, n, n, Report("a", text)) for n, text in enumerate(["calm", "oil on the water"])], "reports"
    )
    assert [near if near is None else np.isclose(near, 1) for near in detector.near(batch, meaning)] == [None, True]
    before = embedder.asked
    detector.near(batch._replace(texts=batch.texts[1:]), meaning)
    assert embedder.asked == before

    class Dead(HashEmbedder):
        def embed(self, texts: Any) -> Any:
            raise TimeoutError("no answer")

    with pytest.raises(Unavailable, match="does not answer: TimeoutError"):
        detector.near(batch, Meaning(Dead()))
