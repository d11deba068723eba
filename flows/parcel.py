"""A parcel: payloads that a gateway fetched by itself become events, and those that cannot become dead letters; the rest goes on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from headwater.flows.deadletter import GATEWAY, bury_foreign, fitted
from headwater.flows.foreign import Convert, Item, converted, time_of
from headwater.flows.gateway import Gateway
from headwater.flows.sink import Writer
from headwater.flows.steps import to_lineage
from headwater.lineage.errors import HeadwaterError, Retryable
from headwater.lineage.event import Event, Position
from headwater.lineage.topic import Topic


class Sent(NamedTuple):
    """What became of a parcel: where its events and dead letters lie, which items were buried, how many say nothing."""

    positions: list[Position]
    refused: tuple[str, ...]
    silent: int

    @property
    def buried(self) -> int:
        return len(self.refused)


class Sender:
    """Sends the parcels of one gateway. Whatever it returns from, the broker has acknowledged."""

    def __init__(
        self, gateway: Gateway, writer: Writer, clock: Callable[[], int], into: Topic[Any], origin: str, priority: str,
        model: type[Any] | None, convert: Convert | None, time: str | None,
    ) -> None:  # fmt: skip
        self._gateway, self._writer, self._clock = gateway, writer, clock
        self._into, self._origin, self._priority = into, origin, priority
        self._model, self._convert, self._time = model, convert, time

    def send(self, items: Sequence[Item], *, once: bool) -> Sent:
        """Publish what can be, in order, and bury what cannot. Raises Unavailable."""
        now = self._clock()
        events: list[tuple[Item, Event]] = []
        refused: list[tuple[Item, HeadwaterError]] = []
        silent = 0
        for number, item in enumerate(items):
            try:
                event = self._event(item, now + number)
            except HeadwaterError as error:
                refused.append((item, error))
                continue
            if event is None:
                silent += 1
            else:
                events.append((item, event))
        positions = self._publish(events, refused, once)
        return Sent(positions + self.bury(refused), tuple(item.id for item, _ in refused), silent)

    def bury(self, refused: Sequence[tuple[Item, HeadwaterError]]) -> list[Position]:
        """Dead letters and their records. Gives the letters' positions."""
        if not refused:
            return []
        buried = [bury_foreign(item.id, item.place, item.raw, error, self._clock()) for item, error in refused]
        self._writer.write(to_lineage(GATEWAY, [record for _, record in buried], self._writer.largest))
        return self._writer.write(fitted(letter, self._writer.largest) for letter, _ in buried)

    def _event(self, item: Item, now: int) -> Event | None:
        if item.error is not None:
            raise item.error
        data = converted(item.value, self._into, self._model, self._convert)
        if data is None:
            return None
        time = time_of(item.value, self._time, now)
        event = Event(id=item.id, source=f"headwater/{self._origin}", type=self._into.name, time=time, data=data)
        if (error := self._gateway.refusal(self._into, event)) is not None:
            raise error
        return event

    def _publish(self, events: list[tuple[Item, Event]], refused: list[tuple[Item, HeadwaterError]], once: bool) -> list[Position]:
        """All at once; if one of them is refused even so (an id that is taken, a size that the broker does not take), each by itself."""
        if not events:
            return []
        try:
            return self._write([event for _, event in events], once)
        except Retryable:
            raise
        except HeadwaterError as error:
            if len(events) == 1:
                refused.append((events[0][0], error))
                return []
        return [position for one in events for position in self._publish([one], refused, once)]

    def _write(self, events: list[Event], once: bool) -> list[Position]:
        accepted = self._gateway.publish(self._into, events, self._origin, self._priority, once=once)
        return [each.position for each in accepted]
