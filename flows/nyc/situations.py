"""24 situations at New York's airports, each with the responses that the operating procedures allow.

Written after the procedures. Half are held out from the agent's making: written by someone who saw the procedures only, and measured
once, when the agent stood; whoever tunes prompts, options or thresholds looks at the others only, and replaces this half afterwards.
`because` names the procedure that settles the case.
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
        "first cancellations of a snowstorm",
        [REBOOK],
        "rebooking",
        "At EWR 7 of the 25 flights due within the hour were cancelled, a fifth or more. Snow, visibility 2 miles, 33 °F.",
    ),
    _case(
        "blizzard",
        [REBOOK],
        "de-icing",
        "At LGA 18 of the 18 flights due within the hour were cancelled, all of them. Heavy snow, visibility half a mile, 28 °F.",
    ),
    _case(
        "a line of storms in the evening",
        [REBOOK],
        "thunderstorms",
        "At LGA 14 of the 38 flights due within the hour were cancelled, a fifth or more. A line of thunderstorms lasts into "
        "the evening; later flights are full.",
    ),
    _case(
        "a December storm",
        [REBOOK],
        "rebooking",
        "At EWR 16 of the 29 flights due within the hour were cancelled, half or more. Light snow, visibility 1.5 miles, 31 °F.",
    ),
    _case(
        "snow closes in, flights still go",
        [HOLD],
        "de-icing",
        "At EWR visibility has fallen to 1 mile in snow at 30 °F. 1 of the 24 flights due within the hour was cancelled, and "
        "aircraft wait for de-icing.",
    ),
    _case(
        "morning fog",
        [HOLD],
        "low-visibility",
        "At JFK visibility is a quarter of a mile in fog at 47 °F. No flight is cancelled, departures are late.",
    ),
    _case(
        "thunderstorm over the field",
        [HOLD],
        "thunderstorms",
        "At LGA a thunderstorm stands over the field and the ramp is closed. Departures of the last hour left 70 minutes late "
        "on average; none is cancelled.",
    ),
    _case(
        "crews near the end of their duty",
        [HOLD],
        "crew-legality",
        "At LGA departures of the last hour left 85 minutes late on average. The crews of two flights near the end of their "
        "duty; flights still go.",
    ),
    _case(
        "an ordinary afternoon",
        [WATCH],
        "resuming-operations",
        "At EWR 1 of the 33 flights due within the hour was cancelled, fewer than a tenth. Visibility 10 miles, departures 8 "
        "minutes late on average.",
    ),
    _case(
        "after the storm",
        [WATCH],
        "resuming-operations",
        "At JFK the snow has stopped and visibility is 10 miles. 2 of the 30 flights due within the hour were cancelled, fewer "
        "than a tenth; delays are falling.",
    ),
    _case(
        "haze",
        [WATCH],
        "low-visibility",
        "At EWR visibility is 3 miles in haze at 71 °F. No flight was cancelled, departures leave 12 minutes late on average.",
    ),
    _case(
        "one diverted flight",
        [WATCH],
        "diversion",
        "At LGA a single flight was diverted in good weather because of a sick passenger. No flight is cancelled, departures "
        "leave on time.",
    ),
    _case(
        "average-delay-barely-over-an-hour-at-ewr",
        [HOLD],
        "gate-hold",
        "At EWR the average departure of the past hour left 62 minutes late. A few clouds, dry, visibility 10 miles; all 33 "
        "flights due within the hour are still planned to go.",
        held_out=True,
    ),
    _case(
        "delay-programme-with-95-minutes-at-windy-jfk",
        [HOLD],
        "ground-delay-programme",
        "At JFK a ground delay programme is in force because of a strong north-westerly wind, and the average departure delay "
        "has climbed to 95 minutes. Visibility is 10 miles. Of 30 flights due within the hour 4 have been cancelled, the others "
        "are going.",
        held_out=True,
    ),
    _case(
        "ground-stop-for-a-radio-failure-at-lga",
        [HOLD],
        "ground-stop",
        "Since LGA lost its tower radio twenty minutes ago a ground stop has been in effect, expected to last another 40 "
        "minutes. Fine weather, visibility 10 miles, and no cancellations among the 28 flights due within the hour.",
        held_out=True,
    ),
    _case(
        "morning-fog-and-an-insistent-tour-operator-at-ewr",
        [HOLD],
        "low-visibility",
        "Foggy EWR reads a visibility of 0.4 miles this morning; the 26 flights due within the hour are late, but none is "
        "cancelled. A tour operator at the desk insists that its group of forty be moved to another day.",
        held_out=True,
    ),
    _case(
        "freezing-rain-cancels-two-thirds-at-ewr",
        [REBOOK],
        "rebooking",
        "At EWR freezing rain is falling at 31 °F with visibility of 2 miles, and 19 of the 29 flights due within the hour have "
        "been dropped.",
        held_out=True,
    ),
    _case(
        "computer-failure-cancels-43-percent-in-fair-weather-at-lga",
        [REBOOK],
        "rebooking",
        "For LGA the airlines have withdrawn 43 percent of the departures due within the hour after a failure of their "
        "computers. The weather plays no part: sunshine, light wind, 10 miles of visibility.",
        held_out=True,
    ),
    _case(
        "dense-fog-with-more-than-a-quarter-cancelled-at-jfk",
        [HOLD, REBOOK],
        "low-visibility",
        "At JFK dense fog leaves a third of a mile of visibility. Nine of the thirty-two flights due within the hour are cancelled.",
        held_out=True,
    ),
    _case(
        "crews-out-of-hours-late-in-the-evening-at-lga",
        [HOLD, REBOOK],
        "crew-legality",
        "Late-evening LGA has 11 of 30 departures due within the hour cancelled, most of them because crews ran out of duty "
        "time. The flights that still go are 105 minutes late on average. Clear, visibility 10 miles.",
        held_out=True,
    ),
    _case(
        "three-single-cancellations-just-below-a-tenth-at-jfk",
        [WATCH],
        "rebooking",
        "At JFK 3 of the 31 flights due within the hour are cancelled, each for a technical fault of its own. Fair weather, "
        "visibility 9 miles, departures 11 minutes behind plan on average.",
        held_out=True,
    ),
    _case(
        "light-snow-and-one-cancellation-at-ewr",
        [WATCH],
        "de-icing",
        "Across EWR light snow is falling at 31 °F, and visibility is 2 miles. Departures leave 14 minutes late on average; 1 "
        "of the 35 flights due within the hour is cancelled.",
        held_out=True,
    ),
    _case(
        "ground-stop-lifted-after-a-storm-at-jfk",
        [WATCH],
        "ground-stop",
        "At JFK the ground stop was lifted 25 minutes ago; the last lightning is 50 minutes past, gusts are down to 15 mph and "
        "visibility is 8 miles. The average delay has fallen from 70 minutes to 38, and none of the 34 flights due within the "
        "hour is cancelled.",
        held_out=True,
    ),
    _case(
        "short-delays-and-a-school-holiday-crowd-at-lga",
        [WATCH],
        "gate-hold",
        "At LGA a school holiday has made a long line at the security check. Departures of the last hour left 21 minutes late "
        "on average, visibility is 10 miles under broken cloud, and one flight of the 40 due within the hour is cancelled.",
        held_out=True,
    ),
)
