"""Law 1, tried: each step in turn loses one event and does another twice, and `audit verify` names both, and nothing else."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl
import pytest

from headwater import App, Decision, Document, Threshold, Topic, agent, document
from headwater.enrichers.testing import HashEmbedder
from headwater.flows import deciding, detecting, landing, walk
from headwater.flows import records as flow_records
from headwater.flows.deep import deep_verdict, whole
from headwater.flows.drain import drain
from headwater.flows.settings import Settings
from headwater.flows.sink import outgoing
from headwater.flows.up import Up
from headwater.lineage.columns import columns_of
from headwater.lineage.decode import MARK
from headwater.lineage.event import Event
from headwater.lineage.message import decode_batch
from headwater.lineage.record import Record
from headwater.lineage.topic import ACTIVATIONS
from headwater.lineage.verify import verify

LOST, TWICE = 1, 3
"""Of five readings, one after the other in one partition, the offsets of those that go wrong; their gauges are `g1` and `g3`."""
KEYS = {"g1": LOST, "g3": TWICE}


class Reading(msgspec.Struct):
    gauge: str
    metres: float = 0.0


def application(root: Any) -> App:
    readings: Topic[Reading] = Topic("readings", Reading, key="gauge", lateness="10ms")
    high = Threshold("high", of=readings, value=pl.col("metres"), per="gauge", opens_at=2.0, closes_at=1.0)

    @document(readings)
    def level(reading: Reading, facts: Any) -> Document:
        return Document(id=reading.gauge, text=f"{reading.gauge} stands at {reading.metres}")

    @agent(wakes_on=[high])
    async def look(activation: Any, context: Any) -> Any:
        return Decision(None)

    return App("lake", documents=[level], triggers=[high], agents=[look], root=root, activations=1)


def mutated(items: list[Any], number: Callable[[Any], int | None]) -> list[Any]:
    """The items without the lost one and with the other twice."""
    return [each for item in items for each in [item] * {LOST: 0, TWICE: 2}.get(number(item), 1)]  # type: ignore[call-overload]


def offset(received: Any) -> int:
    return int(received.position.offset)


def outcomes(records: Any, flow: str) -> list[Record]:
    """The records, those of readings' ends in a flow one by one, changed."""
    return changed(records, lambda record: (record.kind, record.flow, record.topic) == ("outcome", flow, "readings"))


def changed(records: Any, chosen: Callable[[Record], bool]) -> list[Record]:
    """Of the chosen records each offset by itself, the lost one left out, the other there twice."""
    single = [one for record in records for one in (singly(record) if chosen(record) else [record])]
    return mutated(single, lambda record: record.first if chosen(record) else None)


def singly(record: Record) -> list[Record]:
    return [msgspec.structs.replace(record, id=f"{record.id}{n}", first=n, next=n + 1, count=1) for n in range(record.first, record.next)]


def after(patch: Any, module: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Change what a step gives: `module.name(…)` builds the step."""
    build = getattr(module, name)
    patch.setattr(module, name, lambda *args, **more: lambda items, step=build(*args, **more): change(step(items)))


def received(work: Any) -> Any:
    for each in work:
        each.received = mutated(each.received, offset)
    return work


def decode(patch: Any) -> None:
    after(patch, walk, "decode_step", received)


def enrich(patch: Any) -> None:
    after(patch, walk, "enrich_step", received)


def upsert(patch: Any) -> None:
    step = walk.UpsertStep.__call__
    patch.setattr(walk.UpsertStep, "__call__", lambda self, work: step(self, received(work)))


def account(patch: Any) -> None:
    def change(told: Any) -> Any:
        return [changed(records, lambda record: record.topic == "readings") for records in told]

    after(patch, walk, "account_step", change)


def told_by(step: str) -> Callable[[Any], None]:
    """The same of what a step tells that was read, where it goes along with the work."""

    def change(keyed: Any) -> Any:
        for _, each in keyed:
            each.records = changed(each.records, lambda record: record.kind == "consumed")
        return keyed

    return lambda patch: after(patch, walk, step, change)


account_detect, account_decide = told_by("signal_step"), told_by("wake_step")
account_detect.__name__, account_decide.__name__ = "account_detect", "account_decide"


def signal(patch: Any) -> None:
    def change(keyed: Any) -> Any:
        for _, each in keyed:
            each.signals.signals[:] = mutated(each.signals.signals, lambda s: s.offset)
        return keyed

    after(patch, walk, "signal_step", change)


def rules(patch: Any) -> None:
    detected = detecting.DetectLogic._detected

    def change(self: Any, step: Any) -> Any:
        one = detected(self, step)
        one.records = outcomes(one.records, "detect")
        return one

    patch.setattr(detecting.DetectLogic, "_detected", change)


def sink(patch: Any) -> None:
    write = detecting._Partition.write_batch

    def change(self: Any, items: Any) -> None:
        for item in items:
            item.activations = mutated(item.activations, lambda message: KEYS.get(message.key.decode()))
        write(self, items)

    patch.setattr(detecting._Partition, "write_batch", change)


def wake(patch: Any) -> None:
    def change(keyed: Any) -> Any:
        for _, each in keyed:
            each.items = mutated(each.items, lambda item: KEYS.get(item.activation.key))
        return keyed

    after(patch, walk, "wake_step", change)


def decide(patch: Any) -> None:
    outcome = deciding.DecideLogic._finished

    def change(self: Any) -> Any:
        return [each for record in outcome(self) for each in [record] * self.__dict__.setdefault("_many", {}).get(record.id, 1)]

    named = deciding.DecideLogic._outcome

    def note(self: Any, finished: Any, now: int) -> Any:
        record = named(self, finished, now)
        self.__dict__.setdefault("_many", {})[record.id] = {LOST: 0, TWICE: 2}.get(KEYS.get(finished.item.activation.key), 1)
        return record

    patch.setattr(deciding.DecideLogic, "_outcome", note)
    patch.setattr(deciding.DecideLogic, "_finished", change)


def encode(patch: Any) -> None:
    build = flow_records.to_lineage
    patch.setattr(flow_records, "to_lineage", lambda flow, records, *more: build(flow, outcomes(records, "index"), *more))


def land(patch: Any) -> None:
    def change(body: bytes) -> Any:
        return columns_of(outcomes(decode_batch(body), "detect"))

    patch.setattr(landing, "decode_columns", change)


STEPS = (decode, enrich, upsert, account, account_detect, account_decide, signal, rules, sink, wake, decide, encode, land)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_what_a_step_loses_or_does_twice_is_named(step, tmp_path, monkeypatch, eventually):
    """With flow or topic, partition and offset (or the activation's id and key), and nothing that went well is."""
    step(monkeypatch)
    # A mark moves time, no clock does: an event that takes long from the gateway to its place would be late, and wake nobody.
    with Up(application(tmp_path), Settings(home=tmp_path / "home"), http=False, idle=False, embedder=HashEmbedder()) as up:
        topic = up.app.topics["readings"]
        for n in range(5):
            [event] = up.gateway.events(topic, b'{"gauge": "g%d", "metres": 3}' % n)
            [accepted] = up.gateway.publish(topic, [event])
            assert accepted.position.offset == n
            eventually(lambda place=accepted.position: up.run.meter.await_reached("index", {place[1:3]: place.offset + 1}, 1))
        mark = Event(id="mark", source="/test", type=MARK, time=up.run.clock() + 3_600_000_000)
        up.run.writer.write([outgoing("readings", mark, mark.id, 0)])
        fired = 5 if step in (rules, account, account_detect, account_decide, encode, land, decide, wake) else 4
        eventually(lambda: len(drain(up.run.kafka, ACTIVATIONS, 0, 0)) >= fired)

        def found() -> Any:
            assert up.failure is None, up.failure
            verdict = whole(deep_verdict(up.run)) if step is sink else None
            told = [*verify(up.run.store, in_flight_ok=False).offences, *(verdict.offences if verdict else ())]
            about = {offence: about_whom(up, offence) for offence in told}
            last.append(about)
            return about if about and set(about.values()) == named else None

        # A decision in flight takes no second activation of its id: it is made once, has one outcome, and there is nothing to name.
        named = {LOST} if step is wake else {LOST, TWICE}
        last: list[Any] = []
        try:
            eventually(found)
        except AssertionError:
            raise AssertionError(f"not both and nothing else is named: {last[-1:]}") from None
        if step is wake:
            assert verify(up.run.store, in_flight_ok=False).totals["decide/look"] == {"no_action": 4, "in_flight": 1}


def about_whom(up: Up, offence: str) -> int | None:
    """Which reading an offence is about: by its place, by that of its activation, or by the activation itself."""
    if place := re.search(r"readings/0@(\d+)(?!\d)(?! to)", offence):
        return int(place[1])
    with up.run.store.cursor() as cursor:
        known = dict(cursor.execute("SELECT id, \"key\" FROM activations").fetchall())
    for id, key in known.items():
        if id in offence:
            return KEYS.get(key)
    for message in drain(up.run.kafka, ACTIVATIONS, 0, 0):
        if re.search(rf"{re.escape(ACTIVATIONS)}/0@{message.offset}(?!\d)", offence):
            return KEYS.get((message.key or b"").decode())
    return None
