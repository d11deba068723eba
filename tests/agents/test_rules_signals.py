"""What rules read off events: expressions over models and facts."""

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from headwater.agents.order import Signal
from headwater.agents.rules import Rate, Rule, Threshold
from headwater.agents.signals import Reader
from headwater.lineage.decode import MARK, Received
from headwater.lineage.errors import RuleFailed
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    lat: float


class Car(BaseModel):
    plate: str
    colour: Colour = Colour.RED
    speed: int | None = None
    seen: datetime | None = None
    place: Place | None = None
    note: str | None = None


class Owner:
    """An enricher that knows no types."""

    def facts(self, model: Any, time: int) -> Mapping[str, Any]:
        return {}


cars = Topic("cars", Car, key="plate", enrich={"owner": Owner()})


def car(offset: int, facts: Mapping[str, Any] | None = None, **fields: Any) -> Received:
    event = Event(id=f"e{offset}", source="t", type="car", time=offset)
    return Received(Position("b", "cars", 0, offset), event, Car(plate=f"p{offset % 3}", **fields), 5, {"owner": facts})


def rate(where: pl.Expr, per: str | pl.Expr | None = None) -> Rate:
    return Rate("r", of=cars, where=where, per=per, within="1h", opens_at=1, closes_at=0)


def speeding(value: pl.Expr, **more: Any) -> Threshold:
    return Threshold("t", of=cars, value=value, opens_at=100, closes_at=50, **more)


def read(rule: Rule, *received: Received) -> list[tuple[str, float] | None]:
    batch = Reader(cars, [rule]).read(received)
    assert batch.failures == []
    return [signal.readings[0] for signal in batch.signals if signal.readings is not None]


def test_a_signal_keeps_what_order_and_audit_need() -> None:
    """Time, id, place, topic key, append time; a mark has no readings."""
    mark = Received(Position("b", "cars", 0, 9), Event(id="m", source="t", type=MARK, time=4), None, 0)
    batch = Reader(cars, [rate(pl.col("speed") > 3)]).read([car(7, speed=9), mark])
    assert batch.signals == [Signal(7, "e7", 0, 7, "p1", 5, (("all", 1.0),)), Signal(4, "", 0, 9)]
    assert (batch.broker, batch.topic) == ("b", "cars")


def test_fields_are_columns_with_the_types_of_their_annotations() -> None:
    """Enums by value, nested models as structs, times in UTC; a condition that is null does not hold."""
    seen = datetime.fromisoformat("2013-02-08T23:30:00-05:00")
    assert read(rate(pl.col("colour") == "blue", per="colour"), car(0), car(1, colour="blue")) == [("red", 0), ("blue", 1)]
    assert read(rate(pl.col("seen").dt.hour() == 4), car(0), car(1, seen=seen)) == [("all", 0), ("all", 1)]
    assert read(rate(pl.col("place").struct.field("lat") > 40), car(0, place={"lat": 41}), car(1)) == [("all", 1), ("all", 0)]
    assert read(rate(pl.col("note").str.contains("x")), car(0), car(1)) == [("all", 0), ("all", 0)]


def test_facts_are_struct_columns() -> None:
    """`pl.col("owner").struct.field("city")`; where the look-up found nothing, a condition does not hold and a value says nothing."""
    city = pl.col("owner").struct.field("city")
    assert read(rate(city == "Oslo"), car(0, {"city": "Oslo"}), car(1, {"city": None}), car(2)) == [("all", 1), ("all", 0), ("all", 0)]
    assert read(rate(city.str.starts_with("O")), car(1, {"city": None}), car(2, {"city": None})) == [("all", 0), ("all", 0)]
    assert read(rate(city.str.starts_with("O") | (pl.col("speed") > 1)), car(1, {"city": None}, speed=2)) == [("all", 1)]
    moving = rate(pl.col("speed") > 1, per=city)
    assert read(moving, car(0, {"city": "Oslo"}, speed=2), car(1, {"city": None}, speed=2)) == [("Oslo", 1), None]
    assert read(moving, car(0, None, speed=2)) == [None]


def test_a_value_that_is_null_or_not_finite_says_nothing() -> None:
    """Such an event is no reading, nor is one that `where` leaves out."""
    value = 100 / pl.col("speed")
    assert read(speeding(value, where=pl.col("speed") != 5), car(0, speed=4), car(1), car(2, speed=0), car(3, speed=5)) == [
        ("all", 25.0), None, None, None,
    ]  # fmt: skip


def test_an_expression_that_raises_fails_its_events_only() -> None:
    """The rows that raise are found and named; all others are read."""
    received = [car(n, note="12" if n != 5 else "twelve") for n in range(9)]
    batch = Reader(cars, [speeding(pl.col("note").str.to_integer()), rate(pl.lit(True), per="colour")]).read(received)
    (failed, error), *others = batch.failures
    assert (failed.position.offset, others) == (5, [])
    assert isinstance(error, RuleFailed)
    assert "rule t over cars cannot be evaluated" in str(error)
    assert [signal.offset for signal in batch.signals] == [0, 1, 2, 3, 4, 6, 7, 8]
    assert {signal.readings for signal in batch.signals} == {(("all", 12.0), ("red", 1.0))}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, 7, 101]), st.sampled_from([None, "7", "x"]), st.sampled_from([None, "Oslo"])), max_size=12),
    st.data(),
)
def test_readings_do_not_hang_on_batches(rows: list[tuple[int | None, str | None, str | None]], data: st.DataObject) -> None:
    """However events are cut into batches, each gives the same signal or the same failure."""
    rules: list[Rule] = [
        speeding(pl.col("note").str.to_integer(), per="colour"),
        rate(pl.col("owner").struct.field("city").str.contains("O") | (pl.col("speed") > 100)),
    ]
    received = [car(n, {"city": city}, speed=speed, note=note) for n, (speed, note, city) in enumerate(rows)]
    cut = data.draw(st.integers(0, len(received)))
    whole, split = Reader(cars, rules), Reader(cars, rules)
    batch, first, second = whole.read(received), split.read(received[:cut]), split.read(received[cut:])
    assert batch.signals == first.signals + second.signals
    assert [str(error) for _, error in batch.failures] == [str(error) for _, error in first.failures + second.failures]
