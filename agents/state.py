"""What a detector remembers, its immutable form for recovery, and how it goes on under the rules of another day."""

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, cast

from headwater.agents.expression import MARK, without_digest
from headwater.agents.hops import NONE
from headwater.agents.machine import Machine, Mind, Rule
from headwater.agents.meaning import Text
from headwater.agents.order import NEVER, Order, Signal
from headwater.lineage.errors import Misused

VERSION = 2

Lane = tuple[str, int]
"""A topic and one of its partitions; its number in the state's `lanes` is the `partition` of its signals."""


class Known(NamedTuple):
    """A rule as it was when the state was last used: what its memory hangs on, its version, and all of its declaration."""

    shape: str
    version: str
    definition: str


class Parting(NamedTuple):
    """An episode that runs while its rule goes, or comes to read otherwise: it is closed with the next step."""

    rule: str
    version: str
    key: str
    level: float
    episode: str
    at: int


class Held(NamedTuple):
    """Signals of one source batch that wait for their texts to be weighed; `next` is the offset behind the batch."""

    broker: str
    topic: str
    signals: list[Signal]
    texts: tuple[Text, ...]
    partition: int
    next: int


class State(TypedDict):
    """All that a Detector remembers.

    topic   the name of its group: of its topic, or of several with `+` between
    lanes   the partitions of all its topics;  cut  per lane: the offset after the highest released so far
    groups  rule name → key → what the rule remembers of it
    due     a heap of (event time, rule name, key): when something may happen without an event, or be forgotten
    rules   rule name → how it was declared;  reads  topic → (rule name, input) in the order of the waiting signals' readings
    held    in a snapshot: what had not come to the rules yet, in order
    parting, news   what the next step tells: episodes to close; rules that changed, as (name, version before, version now, afresh)
    """

    version: int
    topic: str
    broker: str
    order: Order
    lanes: list[Lane]
    cut: list[int]
    groups: dict[str, dict[str, Any]]
    due: list[tuple[int, str, str]]
    rules: dict[str, Known]
    reads: dict[str, list[tuple[str, int]]]
    held: list[Held]
    parting: list[Parting]
    news: list[tuple[str, str, str, bool]]


Machines = Mapping[str, Machine]


def declared(rules: Sequence[Rule]) -> dict[str, Known]:
    """Rule name → how it is declared now."""
    return {rule.name: Known(rule.shape, rule.version, definition(rule)) for rule in rules}


def definition(rule: Rule) -> str:
    """A rule's declaration as text, the same in every process: its shape, its words and numbers. Two that say the same fire the same."""
    told = {name: value for name, value in vars(rule).items() if isinstance(value, str | int | float)}
    return f"{rule.shape}|{sorted(told.items())}"


def freeze(state: State, machines: Machines) -> bytes:
    """The immutable form of a state."""
    order = {**state["order"], "waiting": [tuple(signal) for signal in state["order"]["waiting"]]}
    groups = {name: {key: machines[name].freeze(known) for key, known in keys.items()} for name, keys in state["groups"].items()}
    parting = [tuple(one) for one in state["parting"]]
    held = [(*one[:2], [tuple(signal) for signal in one.signals], [tuple(text) for text in one.texts], *one[4:]) for one in state["held"]]
    rules = {name: tuple(known) for name, known in state["rules"].items()}
    return pickle.dumps({**state, "order": order, "groups": groups, "rules": rules, "parting": parting, "held": held}, protocol=5)


def thaw(saved: bytes) -> State:
    """What `freeze` gave, with the rules' minds still as they were saved. Raises Misused for a form that this release does not read."""
    state: Any = pickle.loads(saved)  # noqa: S301 (our own recovery store)
    if state["version"] == 1:
        _from_first(state)
    if state["version"] != VERSION:
        raise Misused(
            f"the snapshot of the rules over {state['topic']} is of version {state['version']}, this headwater reads {VERSION}: "
            "run the headwater that wrote it, or start detect on an empty recovery store"
        )
    state["order"]["waiting"] = [Signal(*signal) for signal in state["order"]["waiting"]]
    state["held"] = [
        Held(broker, topic, [Signal(*one) for one in signals], tuple(Text(*one) for one in texts), partition, following)
        for broker, topic, signals, texts, partition, following in state["held"]
    ]
    state["parting"] = [Parting(*one) for one in state["parting"]]
    state["rules"] = {name: Known(*known) for name, known in state["rules"].items()}
    return cast(State, state)


def adopt(state: State, today: Mapping[str, Known], reads: dict[str, list[tuple[str, int]]], machines: Machines) -> None:
    """Have a thawed state go on under today's rules: one new or that reads otherwise starts afresh, its running episodes are parted with.

    The state is changed in place.
    """
    former = {name: _recognised(known, today.get(name)) for name, known in state["rules"].items()}
    kept = {name for name, known in today.items() if name in former and former[name].shape == known.shape}
    waiting = state["order"]["waiting"]
    places = {topic: _places(state["reads"].get(topic, []), now, kept) for topic, now in reads.items()}
    if reads != state["reads"] or len(kept) < len(former):
        state["order"]["waiting"] = [_reread(signal, places[state["lanes"][signal.partition][0]]) for signal in waiting]
        state["held"] = [_reheld(one, places[one.topic]) for one in state["held"]]
    saved = state["groups"]
    groups: dict[str, dict[str, Any]] = {}
    for name in today:
        machine, keys = machines[name], saved.get(name, {})
        if name in kept:
            groups[name] = {key: machine.thaw(known) for key, known in keys.items()}
        else:
            groups[name] = _afresh(keys, machine, state["order"]["watermark"])
    state["parting"] += [
        Parting(name, former[name].version, key, known["level"], known["episode"], known["at"])
        for name, keys in saved.items()
        if name not in kept
        for key, known in sorted(keys.items())
        if known["episode"]
    ]
    state["news"] += [
        (name, former[name].version if name in former else "", today[name].version if name in today else "", name not in kept)
        for name in {**former, **today}
        if former.get(name) != today.get(name) and not _unknown(former.get(name), today.get(name))
    ]
    state["groups"], state["rules"], state["reads"] = groups, dict(today), reads
    state["due"] = sorted(
        (known["armed"], name, key) for name, keys in groups.items() for key, known in keys.items() if known["armed"] != NEVER
    )


def _recognised(before: Known, now: Known | None) -> Known:
    """How a rule was declared; a release that did not tell its expressions whole may have told of the same one."""
    if now is None or MARK in before.shape or before.shape != (plain := without_digest(now.shape)):
        return before
    return Known(now.shape, before.version, before.definition.replace(plain, now.shape, 1))


def _unknown(before: Known | None, now: Known | None) -> bool:
    """Whether a state that did not tell versions (form 1) says nothing against these being the same."""
    return before is not None and now is not None and not before.version and before.shape == now.shape


def _afresh(keys: Mapping[str, Mind], machine: Machine, watermark: int) -> dict[str, Any]:
    """Of keys that fired at a time which may come again what keeps their firings in order; nothing else."""
    found: dict[str, Any] = {}
    for key, known in keys.items():
        rest = max(known["at"] + bool(known["episode"]), known["cool"])  # the closing of a running one comes a moment later
        if rest >= watermark and rest != NEVER:
            found[key] = {**machine.begin(), "at": known["at"], "cool": known["cool"], "armed": rest + 1}
    return found


def _places(before: Sequence[tuple[str, int]], now: Sequence[tuple[str, int]], kept: set[str]) -> list[int | None]:
    return [before.index(one) if one[0] in kept and one in before else None for one in now]


def _reread(signal: Signal, places: Sequence[int | None]) -> Signal:
    """A waiting signal with its readings in the order of today's rules."""
    readings = signal.readings
    if readings is None or not signal.is_event:
        return signal
    return signal._replace(readings=tuple(None if place is None else readings[place] for place in places))


def moved(
    signals: Sequence[Signal], texts: Sequence[Text], before: Sequence[tuple[str, int]], now: Sequence[tuple[str, int]],
    known: Mapping[str, Known], today: Mapping[str, Known],
) -> tuple[list[Signal], tuple[Text, ...]]:  # fmt: skip
    """Signals (and texts) of one topic, read for the inputs `before`, in the order of those of `now`, where the rule is the same."""
    kept = {name for name in today if name in known and known[name].shape == today[name].shape}
    places = _places(before, now, kept)
    held = _reheld(Held("", "", list(signals), tuple(texts), 0, 0), places)
    return held.signals, held.texts


def _reheld(held: Held, places: Sequence[int | None]) -> Held:
    now = {before: place for place, before in enumerate(places) if before is not None}
    texts = tuple(text._replace(place=now[text.place]) for text in held.texts if text.place in now)
    return held._replace(signals=[_reread(signal, places) for signal in held.signals], texts=texts)


def _from_first(state: Any) -> None:
    """Form 1 was of one topic, one input for each rule; a key had at most one deadline, and no cool-down."""
    topic = state["topic"]
    armed = {(name, key): moment for moment, name, key in state["due"]}
    for name, keys in state["groups"].items():
        for key, known in keys.items():
            known |= {"armed": armed.get((name, key), NEVER), "cool": NEVER, "hops": known.get("hops", NONE)}
    state["lanes"] = [(topic, partition) for partition in range(len(state["cut"]))]
    state["reads"] = {topic: [(name, 0) for name, _ in state["rules"]]}
    state["rules"] = {name: (shape, "", "") for name, shape in state["rules"]}
    state |= {"version": 2, "held": [], "parting": [], "news": []}
