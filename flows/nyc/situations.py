"""24 situations at New York's airports, each with the responses that the operating procedures allow.

Written after the procedures and before the agent. Half are held out from the agent's making: whoever tunes prompts, options or
thresholds looks at the others only. `because` names the procedure that settles the case.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Response = Literal["hold departures at the gate", "rebook passengers", "keep watching"]

HOLD: Response = "hold departures at the gate"
REBOOK: Response = "rebook passengers"
WATCH: Response = "keep watching"


@dataclass(frozen=True)
class Situation:
    """One case: what the agent is told, and what it may answer."""

    name: str
    text: str
    allowed: frozenset[Response]
    because: str
    held_out: bool

    @property
    def airport(self) -> str:
        return self.text.split()[1]


def _case(name: str, allowed: Iterable[Response], because: str, text: str, held_out: bool = False) -> Situation:
    return Situation(name, text, frozenset(allowed), because, held_out)


SITUATIONS: tuple[Situation, ...] = (
    _case(
        "first cancellations of a snowstorm", [REBOOK], "rebooking",
        "At EWR 7 of the 25 flights due within the hour were cancelled, a fifth or more. Snow, visibility 2 miles, 33 °F.",
    ),
    _case(
        "half the flights gone", [REBOOK], "rebooking",
        "At JFK 17 of the 31 flights due within the hour were cancelled, half or more. Snow, visibility 1 mile, 30 °F, "
        "gusts of 35 miles per hour.",
        held_out=True,
    ),
    _case(
        "blizzard", [REBOOK], "de-icing",
        "At LGA 18 of the 18 flights due within the hour were cancelled, all of them. Heavy snow, visibility half a "
        "mile, 28 °F.",
    ),
    _case(
        "the morning after the blizzard", [REBOOK], "crew-legality",
        "At EWR 10 of the 10 flights due within the hour were cancelled, all of them. Clear, visibility 10 miles, 24 "
        "°F; crews and aircraft are out of place.",
        held_out=True,
    ),
    _case(
        "a line of storms in the evening", [REBOOK], "thunderstorms",
        "At LGA 14 of the 38 flights due within the hour were cancelled, a fifth or more. A line of thunderstorms "
        "lasts into the evening; later flights are full.",
    ),
    _case(
        "strong wind all day", [REBOOK], "ground-delay-programme",
        "At EWR 9 of the 36 flights due within the hour were cancelled, a fifth or more. Wind of 32 miles per hour "
        "with gusts of 50, visibility 10 miles.",
        held_out=True,
    ),
    _case(
        "a December storm", [REBOOK], "rebooking",
        "At EWR 16 of the 29 flights due within the hour were cancelled, half or more. Light snow, visibility 1.5 miles, 31 °F.",
    ),
    _case(
        "no hotel rooms left", [REBOOK], "hotel-and-care",
        "At JFK 12 of the 30 flights due within the hour were cancelled, a fifth or more. It is nine in the evening "
        "and the next free seats are tomorrow.",
        held_out=True,
    ),
    _case(
        "snow closes in, flights still go", [HOLD], "de-icing",
        "At EWR visibility has fallen to 1 mile in snow at 30 °F. 1 of the 24 flights due within the hour was "
        "cancelled, and aircraft wait for de-icing.",
    ),
    _case(
        "snow at half a mile", [HOLD], "de-icing",
        "At LGA visibility has fallen to half a mile in heavy snow at 29 °F; the runway is being cleared. Few flights "
        "are cancelled so far.",
        held_out=True,
    ),
    _case(
        "morning fog", [HOLD], "low-visibility",
        "At JFK visibility is a quarter of a mile in fog at 47 °F. No flight is cancelled, departures are late.",
    ),
    _case(
        "late and later", [HOLD], "gate-hold",
        "At EWR departures of the last hour left 66 minutes late on average. 1 of the 30 flights due within the hour "
        "was cancelled. Visibility 10 miles.",
        held_out=True,
    ),
    _case(
        "thunderstorm over the field", [HOLD], "thunderstorms",
        "At LGA a thunderstorm stands over the field and the ramp is closed. Departures of the last hour left 70 "
        "minutes late on average; none is cancelled.",
    ),
    _case(
        "ground stop", [HOLD], "ground-stop",
        "At JFK all departures to Boston are stopped for an hour because a runway there is closed. No flight is cancelled yet.",
        held_out=True,
    ),
    _case(
        "crews near the end of their duty", [HOLD], "crew-legality",
        "At LGA departures of the last hour left 85 minutes late on average. The crews of two flights near the end of "
        "their duty; flights still go.",
    ),
    _case(
        "diversions return", [HOLD], "diversion",
        "At EWR the field is closed by low visibility of a quarter of a mile, and three flights were diverted to "
        "Philadelphia. No departure is cancelled yet.",
        held_out=True,
    ),
    _case(
        "an ordinary afternoon", [WATCH], "resuming-operations",
        "At EWR 1 of the 33 flights due within the hour was cancelled, fewer than a tenth. Visibility 10 miles, "
        "departures 8 minutes late on average.",
    ),
    _case(
        "light snow", [WATCH], "de-icing",
        "At LGA visibility is 2.5 miles in light snow at 31 °F. No flight of the last hour was cancelled, departures "
        "leave almost on time.",
        held_out=True,
    ),
    _case(
        "after the storm", [WATCH], "resuming-operations",
        "At JFK the snow has stopped and visibility is 10 miles. 2 of the 30 flights due within the hour were "
        "cancelled, fewer than a tenth; delays are falling.",
    ),
    _case(
        "programme works", [WATCH], "ground-delay-programme",
        "At LGA a ground delay programme is in force. Departures of the last hour left 22 minutes late on average, "
        "none was cancelled.",
        held_out=True,
    ),
    _case(
        "haze", [WATCH], "low-visibility",
        "At EWR visibility is 3 miles in haze at 71 °F. No flight was cancelled, departures leave 12 minutes late on average.",
    ),
    _case(
        "storms forecast", [WATCH], "thunderstorms",
        "At JFK thunderstorms are forecast for the evening but not yet here. Departures leave almost on time, no "
        "flight is cancelled.",
        held_out=True,
    ),
    _case(
        "one diverted flight", [WATCH], "diversion",
        "At LGA a single flight was diverted in good weather because of a sick passenger. No flight is cancelled, "
        "departures leave on time.",
    ),
    _case(
        "stop lifted", [WATCH], "ground-stop",
        "At EWR the ground stop has ended and flights leave again. Fewer than a tenth of the flights of the hour are "
        "cancelled, delays fall slowly.",
        held_out=True,
    ),
)  # fmt: skip
