"""Three spoiled messages that the demo slips in, one of each way a message can be no event of its topic."""

from typing import NamedTuple

from headwater.flows.nyc.data import FLIGHTS, WEATHER
from headwater.lineage.duration import format_time
from headwater.lineage.event import JSON


class Spoiled(NamedTuple):
    """A raw message for a producer, and the cause that its dead letter must name."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    cause: str


def spoiled(time: int) -> tuple[Spoiled, ...]:
    """Not JSON; JSON that breaks its model (no origin, no such status); no id. `time` is their event time in µs."""
    stamp = format_time(time).encode()

    def headers(name: str, type_: str) -> list[tuple[str, bytes]]:
        told = [("ce_specversion", b"1.0"), ("ce_source", b"nyc/spoiled"), ("ce_type", type_.encode()), ("ce_time", stamp)]
        told.append(("content-type", JSON.encode()))
        return [("ce_id", name.encode()), *told] if name else told

    broken = b'{"id":"spoiled-2","sequence":1,"status":"lost","carrier":"UA","flight":1,"destination":"ORD","scheduled":""}'
    nameless = b'{"id":"spoiled-3","origin":"EWR","hour":"","visibility":10.0,"precipitation":0.0}'
    return (
        Spoiled(FLIGHTS, b"spoiled-1", b'{"id": "spoiled-1", "sequence": 1, "stat', headers("spoiled-1", "flight.due"), "undecodable"),
        Spoiled(FLIGHTS, b"spoiled-2", broken, headers("spoiled-2", "flight.due"), "invalid"),
        Spoiled(WEATHER, b"EWR", nameless, headers("", "weather.observed"), "invalid"),
    )
