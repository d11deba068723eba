"""Where the levels of the rules come from: each is the lowest that stays silent on January's ordinary airport-days.

    python -m headwater.flows.nyc.calibrate

"Lowest" is in the direction that makes the rule fire more often: a smaller share, a smaller delay, a larger visibility. Nothing but
January is looked at; the rest of the year is the test. What surrounds a level was settled by reason, also on January alone:

within="1h"   the hour of which the procedures speak
at_least      cancellations 10: of fewer flights, one cancelled is already more than a tenth. Delays 20: fewer departures in an hour are
              the stragglers of a late evening, whose mean says little about the airport
closes_at     an ordinary hour: of the readings on January's ordinary airport-days nine in ten show no cancellation and a mean delay of at
              most 15 minutes (`usual`); visibility as good as it ever was on them in freezing air
visibility    at or below freezing only: on January's ordinary days visibility fell to a quarter of a mile, in fog, mostly at night, and
              nothing was cancelled; in freezing air, where low visibility is snow, it never fell below six miles
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from headwater.agents.detect import Detector
from headwater.agents.machine import Entry
from headwater.agents.rules import Measuring, window_of
from headwater.agents.signals import Batch
from headwater.agents.window import Group, group, measure, slide
from headwater.flows.nyc.app import cancellations, delays, visibility
from headwater.flows.nyc.rehearse import received, run
from headwater.flows.nyc.truth import AirportDay, day_of, days_of, firings

JANUARY = (date(2013, 1, 1), date(2013, 1, 31))
SHARES = tuple(share / 100 for share in range(1, 101))
MINUTES = tuple(float(minutes) for minutes in range(1, 241))
MILES = (10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.12, 0.06, 0.0)
"""The visibilities that the instruments report."""


@dataclass(frozen=True)
class Ladder:
    """A rule and the levels it could open at, from the one that fires most often to the one that fires least."""

    rule: Measuring
    levels: Sequence[float]


LADDERS = (Ladder(cancellations, SHARES), Ladder(delays, MINUTES), Ladder(visibility, MILES))


def january(rule: Measuring) -> list[Batch]:
    """What the rule reads off January's events, whatever its levels."""
    detector = Detector(rule.of, [rule], 1, idle=False)
    return [detector.signals(batch) for _, batch in received([rule.of], *JANUARY)]


def alarms(rule: Measuring, batches: Sequence[Batch], level: float) -> frozenset[AirportDay]:
    """January's ordinary airport-days on which the rule would fire if it opened at the level.

    The closing level stays the rule's own, unless the two would cross: then the episode closes as soon as the level is left.
    """
    fitted = replace(rule, opens_at=level, closes_at=_closing(rule, level))
    activations = run(Detector(rule.of, [fitted], 1, idle=False), batches)
    return firings(activations, last=JANUARY[1]).get(rule.name, frozenset()) & days_of("ordinary")


def lowest_silent(rule: Measuring, batches: Sequence[Batch], levels: Sequence[float]) -> float | None:
    """The first level, in the order given, from which on the rule stays silent; None if the last one still fires.

    Found by halving: a level that fires less often is never silent less often.
    """
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        if alarms(rule, batches, levels[middle]):
            low = middle + 1
        else:
            high = middle
    return levels[low] if low < len(levels) else None


def usual(rule: Measuring, batches: Sequence[Batch]) -> float:
    """The level that nine in ten readings of a windowed rule on January's ordinary airport-days do not exceed."""
    within, known, levels = window_of(rule) or 0, defaultdict[str, Group](group), []
    for signal in sorted(signal for batch in batches for signal in batch.signals if signal.readings and signal.readings[0]):
        key, value = (signal.readings or ((),))[0] or ("", 0.0)
        entry = Entry(signal.time, signal.id, signal.partition, signal.offset, signal.thing, value, signal.appended)
        slide(known[key], entry, within, rule.stat)
        if len(known[key]["newest"]) >= rule.at_least and AirportDay(day_of(signal.time), key) in days_of("ordinary"):
            levels.append(measure(known[key], rule.stat))
    return sorted(levels)[len(levels) * 9 // 10]


def _closing(rule: Measuring, level: float) -> float:
    if rule.below:
        return max(rule.closes_at, level + 1e-6)
    return max(0.0, min(rule.closes_at, level - 1e-6))


def main() -> None:
    """Print each rule's level as January gives it, beside the one in the application."""
    for ladder in LADDERS:
        batches = january(ladder.rule)
        level = lowest_silent(ladder.rule, batches, ladder.levels)
        print(f"{ladder.rule.name:14} lowest silent level {level}, in app.py {ladder.rule.opens_at}")
        if ladder.rule.within is not None:
            print(f"{'':14} nine in ten readings at most {usual(ladder.rule, batches):g}, in app.py it closes at {ladder.rule.closes_at}")


if __name__ == "__main__":
    main()
