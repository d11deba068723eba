"""What every run of the effects-once tests is given: the same events under awkward keys, and the same verdicts to the same questions."""

import json
from collections.abc import Sequence
from typing import Any

from headwater.agents.verdict import Verdict, verdict_event
from headwater.flows.sink import Outgoing, outgoing
from headwater.lineage.decode import MARK
from headwater.lineage.duration import parse_time
from headwater.lineage.event import Event
from headwater.lineage.topic import ACTIVATIONS, DEAD, DECISIONS, REVIEWS

HALVES = (("1", '"1"', "k" * 1024), ("user_1", "", "ключ/鍵\u2028🔑'\\%s"))
"""Keys that are easily taken for another, or for none: a run is given the one half or the other."""
EPISODES = 2
LEVELS = [2.5, 3.5, 0.5]
"""Of one episode: it opens, is updated, closes."""
CALMS = [3.0, 0.0, 3.0]
CHARGES = 4
START = parse_time("2031-01-01T00:00:00Z")
PARTITIONS = {"readings": 2, "calms": 1, "charges": 1, "deeds": 1, ACTIVATIONS: 1, DECISIONS: 1, REVIEWS: 1, DEAD: 1}
READ = ("readings", "calms", "charges")
"""What rules read."""
AGENTS = ("doer", "asker", "waiter", "spender")

KEYS = len(HALVES[0])
DECIDED = {"doer": KEYS * EPISODES * len(LEVELS), "asker": KEYS * EPISODES, "waiter": 2 * KEYS * EPISODES, "spender": CHARGES}
"""Agent → how many decisions it makes of all this."""
ACTIVATED = KEYS * (EPISODES * len(LEVELS) + len(CALMS)) + CHARGES
"""Activations: every event is one."""


def risings(keys: Sequence[str]) -> list[Outgoing]:
    """The levels of all keys in turn, and the charges among them."""
    found = []
    for n, level in enumerate(LEVELS * EPISODES):
        found += [_event("readings", f"rise-{n}-{m}", key, level, n, m % 2) for m, key in enumerate(keys)]
        found += [_event("charges", f"charge-{c}", "purse", 3.0 - 3 * (c % 2), c) for c in range(CHARGES)[n : n + 1]]
    return found


def calms(keys: Sequence[str]) -> list[Outgoing]:
    """What the suspended agents wait for: as often as they suspend, and once more, when nobody waits any longer."""
    return [_event("calms", f"calm-{n}-{m}", key, level, 100 + n) for n, level in enumerate(CALMS) for m, key in enumerate(keys)]


def marks() -> list[Outgoing]:
    """Ends of time, one for each partition that rules read."""
    places = [(topic, partition) for topic in READ for partition in range(PARTITIONS[topic])]
    events = (Event(id=f"mark-{topic}-{p}", source="/crash", type=MARK, time=START + 10**10) for topic, p in places)
    return [outgoing(topic, mark, mark.id, p) for mark, (topic, p) in zip(events, places, strict=True)]


def _event(topic: str, name: str, who: str, level: float, seconds: int, partition: int = 0) -> Outgoing:
    data = json.dumps({"who": who, "level": level}).encode()
    event = Event(id=name, source="/crash", type=topic, time=START + seconds * 1_000_000, data=data)
    return outgoing(topic, event, who, partition)


def verdicts(question: dict[str, Any], now: int) -> list[Outgoing]:
    """The answers of two people to one question, who do not agree: the one who comes first is right.

    What became of a call is approved, so that what follows happens. Of what agents are unsure about one key's is declined, another's gets
    another choice.
    """
    third = next(half.index(question["key"]) for half in HALVES if question["key"] in half) if question["reason"] == "unsure" else 0
    choice = {"text": f"instead of {question['decision']}"} if third == 2 else None
    said = Verdict(
        review=question["review"], decision=question["decision"], agent=question["agent"], partition=0,
        verdict="declined" if third == 1 else "approved", by="first", choice=choice, at=now,
    )  # fmt: skip
    other = Verdict(
        review=said.review, decision=said.decision, agent=said.agent, partition=0,
        verdict="approved" if third == 1 else "declined", by="second", at=now,
    )  # fmt: skip
    return [outgoing(REVIEWS, verdict_event(each, f"{each.by}-{each.review}"), each.review, 0) for each in (said, other)]
