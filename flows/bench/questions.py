"""Questions about the reference application's documents, each with the documents that answer it, by rule from the structured data.

What a question asks for, and what the data say of each flight and hour, are compared as values; no text is looked at. So the right
answers are certain, and complete. The words are a reader's, not the documents': an airport by its city's name, "called off" for cancelled.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.flows.nyc.data import Flight, Weather
from headwater.flows.nyc.situations import SITUATIONS

MOST_RIGHT = 10
"""Documents that may answer a question: of more, a list of ten could not tell how good it is."""
CALLED = {"EWR": "Newark", "JFK": "Kennedy airport", "LGA": "LaGuardia"}
GONE = {
    "cancelled": ("were called off", "did not take off", "were scrapped", "were cancelled"),
    "departed": ("left", "took off", "actually flew", "departed"),
}

ASKED_AT_THE_DESK = {
    "communication": (
        "how often do travellers hear from us", "who tells people to stay at home", "may we blame the carrier next door in a statement",
        "what do we announce over the loudspeakers",
    ),
    "crew-legality": (
        "pilots are tired and near the end of their working day", "how long may a captain stay on the job",
        "when do we call the standby staff", "can the boss extend a pilot's shift",
    ),
    "de-icing": (
        "wings are frozen over", "how long does the spray protect a jet", "spraying takes how many minutes in frost",
        "white stuff on the wings before take-off",
    ),
    "diversion": (
        "a plane had to land in another city", "jet low on fuel goes to Boston instead",
        "people stuck on an aircraft in Albany, do they get a bus", "which cities take our planes when we are shut",
    ),
    "gate-hold": (
        "should the plane stay parked with its doors open", "engines off until a slot is certain",
        "how long may we keep a plane parked at most", "queue on the taxiway is getting long",
    ),
    "ground-delay-programme": (
        "every plane gets a later slot because the destination is crowded", "waiting on the ground rather than circling in the air",
        "fewer landings per hour than planned for most of the day", "slots because of strong wind all afternoon",
    ),
    "ground-stop": (
        "radar has failed and nothing may leave", "the tower keeps everything down for half an hour",
        "no pushback at all until further notice", "what if the order is extended twice",
    ),
    "hotel-and-care": (
        "where do stranded people sleep tonight", "when does somebody get a free meal", "blankets and a quiet corner for families",
        "how many beds should be booked",
    ),
    "low-visibility": (
        "thick fog, crews cannot see the runway lights", "mist over the field makes taxiing risky", "how far must one see to take off",
        "view from the tower is gone",
    ),
    "rebooking": (
        "who gets a seat on a later plane first", "moving people to other flights before they queue",
        "families with small children need new seats", "half of the timetable is gone, what about the customers",
    ),
    "resuming-operations": (
        "the trouble is over, how do we start again", "in which order are waiting planes let go", "getting back to normal",
        "should we drop more flights to get back on plan",
    ),
    "thunderstorms": (
        "lightning close to the ramp", "may baggage workers stay outside", "gusts and downbursts", "bolts seen five miles away",
    ),
}  # fmt: skip
"""Procedure → what people ask it for, in their own words, written with the procedure alone in view."""


@dataclass(frozen=True)
class Question:
    """A query, the ids of all documents that answer it, and the kind of question it is."""

    kind: str
    text: str
    right: frozenset[str]

    @property
    def held_out(self) -> bool:
        """Half of them, by hash: whoever tunes looks at the others only."""
        return hashlib.sha256(self.text.encode()).digest()[0] % 2 == 1


Rows = Mapping[str, Mapping[str, Any]]


def questions(flights: Sequence[Flight], hours: Sequence[Weather], airlines: Rows, airports: Rows, planes: Rows) -> list[Question]:
    """Some two hundred and fifty, the same on every run. `flights` as they ended; the tables by carrier, airport and tail number."""
    pick = random.Random(2013)  # noqa: S311  (a seed, not a secret)
    cities = {code: str(row["name"]) for code, row in airports.items()}
    names = {code: _short(str(row["name"])) for code, row in airlines.items()}
    found = [
        *_some(pick, 60, list(_of_one_flight(flights, names, cities, pick))),
        *_some(pick, 50, list(_of_routes(flights, names, cities, pick))),
        *_some(pick, 40, list(_of_hours(hours, pick))),
        *_some(pick, 30, list(_of_aircraft(flights, planes, cities))),
        *_of_procedures(),
    ]
    return sorted({one.text: one for one in found}.values(), key=lambda one: one.text)


def _some(pick: random.Random, many: int, found: list[Question]) -> list[Question]:
    found = [one for one in found if 1 <= len(one.right) <= MOST_RIGHT]
    return pick.sample(sorted(found, key=lambda one: one.text), min(many, len(found)))


def _of_one_flight(
    flights: Sequence[Flight], names: Mapping[str, str], cities: Mapping[str, str], pick: random.Random
) -> Iterator[Question]:
    """By number, day and destination, as a passenger knows it."""
    numbered = _grouped(flights, lambda f: (f.carrier, f.flight, f.scheduled[:10]))
    for one in flights:
        asked = pick.choice((
            "Has {airline} {number} to {city} on {day} left?",
            "I am booked on {airline} flight {number} from {origin}, {day}. Does it go?",
            "status of {carrier} {number} {day}",
        ))  # fmt: skip
        day, city = one.scheduled[:10], cities.get(one.destination, one.destination)
        same = [
            f for f in numbered[one.carrier, one.flight, day]
            if ("{origin}" not in asked or f.origin == one.origin) and ("{city}" not in asked or f.destination == one.destination)
        ]  # fmt: skip
        text = asked.format(
            airline=names[one.carrier], carrier=one.carrier, number=one.flight, city=city, day=day, origin=CALLED[one.origin]
        )
        yield Question("flight", text, _ids(same))


def _of_routes(flights: Sequence[Flight], names: Mapping[str, str], cities: Mapping[str, str], pick: random.Random) -> Iterator[Question]:
    """All flights of an airline on a route that ended alike on a day."""
    for (carrier, origin, to, status, day), same in _grouped(
        flights, lambda f: (f.carrier, f.origin, f.destination, f.status, f.scheduled[:10])
    ).items():
        if status in GONE:
            said = pick.choice(GONE[status])
            text = f"Which {names[carrier]} flights from {CALLED[origin]} to {cities.get(to, to)} {said} on {day}?"
            yield Question("route", text, _ids(same))


def _of_hours(hours: Sequence[Weather], pick: random.Random) -> Iterator[Question]:
    """The weather of one hour at one airport."""
    for one in hours:
        day, clock = one.hour.split()
        asked = pick.choice((
            "How was the weather at {place} at {clock} on {day}?",
            "sky and wind over {place}, {day} {clock}",
            "Could pilots see far at {place} on {day} at {clock}?",
        ))  # fmt: skip
        yield Question("hour", asked.format(place=CALLED[one.origin], clock=clock, day=day), frozenset([f"airport_hour/{one.id}"]))


def _of_aircraft(flights: Sequence[Flight], planes: Rows, cities: Mapping[str, str]) -> Iterator[Question]:
    """All departures with a type of aircraft to a destination."""
    known = [f for f in flights if planes.get(str(f.tailnum), {}).get("model")]
    for (maker, model, to), same in _grouped(known, lambda f: (*_made(planes, f), f.destination)).items():
        yield Question("aircraft", f"departures to {cities.get(to, to)} flown with a {maker.title()} {model}", _ids(same))


def _of_procedures() -> Iterator[Question]:
    """Situations that were judged when the procedures were written, each by the one that settles it; and what people ask each for."""
    for one in SITUATIONS:
        yield Question("situation", one.text, frozenset([f"files/procedures/{one.because}.md"]))
    for name, asked in ASKED_AT_THE_DESK.items():
        for text in asked:
            yield Question("procedure", text, frozenset([f"files/procedures/{name}.md"]))


def _made(planes: Rows, flight: Flight) -> tuple[str, str]:
    plane = planes[str(flight.tailnum)]
    return str(plane["manufacturer"]), str(plane["model"])


def _grouped(flights: Iterable[Flight], key: Callable[[Flight], Any]) -> dict[Any, list[Flight]]:
    groups: dict[Any, list[Flight]] = {}
    for one in flights:
        groups.setdefault(key(one), []).append(one)
    return groups


def _ids(flights: Iterable[Flight]) -> frozenset[str]:
    return frozenset(f"flight_status/{one.id}" for one in flights)


def _short(airline: str) -> str:
    """As people say it: without the legal form."""
    return airline.replace(" Inc.", "").replace(" Co.", "").replace(" Corporation", "").replace(" Air Lines", "")
