"""detect: signals of a topic, or of several that rules connect → activations, in event-time order (law 5).

The unit of the flow `detect`: one Detector per group of topics, one state per group. The state is plain data, `snapshot` gives its
immutable form for recovery. What comes out is determined by the topics' contents: not by batch boundaries, not by how partitions
interleave, not by a restart in between. No clock is read; `now` is passed in and used for idleness only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from headwater.agents.machine import Rule
from headwater.agents.meaning import Meaning
from headwater.agents.order import NEVER, Ends, Signal, begin, grow, wake_at
from headwater.agents.rules import is_immediate
from headwater.agents.signals import Batch, Reader, inputs_over
from headwater.agents.standing import Standing
from headwater.agents.state import VERSION, Lane, State, adopt, declared, freeze, thaw
from headwater.agents.step import Look, Pace, Step, Watching
from headwater.lineage.decode import Received
from headwater.lineage.duration import duration
from headwater.lineage.errors import Gone, Misused
from headwater.lineage.topic import Topic

__all__ = ["NEVER", "VERSION", "Detector", "State", "Step", "groups_of"]


class Detector:
    """The rules over one topic, or over a group of topics.

    partitions  of the topic (of several: name → how many), all of them now; `grow` where a topic without a key has got more
    idle        whether silent partitions stop holding the watermark (`topic.idle_after`); replays send time marks and switch it off
    """

    def __init__(
        self, topics: Topic[Any] | Sequence[Topic[Any]], rules: Sequence[Rule], partitions: int | Mapping[str, int] | None = None,
        *, idle: bool = True,
    ) -> None:  # fmt: skip
        given = [topics] if isinstance(topics, Topic) else sorted(topics, key=lambda topic: topic.name)
        self.topics = {topic.name: topic for topic in given}
        _check(self.topics, rules)
        self.name = "+".join(self.topics)
        self.single = len(given) == 1
        self.topic = given[0]
        self.rules = tuple(rules)
        self.declared = declared(rules)  # once: of a module that is loaded for a moment only, functions are told otherwise later
        self.counts = {topic.name: topic.partitions for topic in given} | self._counted(partitions)
        self.lateness = {topic.name: duration(topic.lateness) for topic in given}
        self.horizon = max(self.lateness.values())
        self._idle_after = {topic.name: duration(topic.idle_after) for topic in given} if idle else None
        self._readers = {topic.name: Reader(topic, rules) for topic in given}
        self.watching = {rule.name: _watching(rule) for rule in rules}
        self._machines = {name: watching.machine for name, watching in self.watching.items()}
        self._reads = {topic.name: [(rule.name, n) for rule, n, _ in inputs_over(topic, rules)] for topic in given}
        self._arrange()

    def _counted(self, partitions: int | Mapping[str, int] | None) -> dict[str, int]:
        if partitions is None or isinstance(partitions, int):
            return {self.topic.name: partitions} if partitions else {}
        return dict(partitions)

    def _arrange(self) -> None:
        """Which rules need not wait for the watermark: what looks at one event alone, where one partition holds all of a key."""
        self.ordered: dict[str, list[Look]] = {}
        self.immediate: dict[str, list[Look]] = {}
        for topic in self.topics.values():
            looks = [(ordinal, n, self.watching[rule.name]) for ordinal, (rule, n, _) in enumerate(inputs_over(topic, self.rules))]
            at_once = [is_immediate(watching.rule, self.counts[topic.name]) for _, _, watching in looks]
            self.immediate[topic.name] = [look for look, now in zip(looks, at_once, strict=True) if now]
            self.ordered[topic.name] = [look for look, now in zip(looks, at_once, strict=True) if not now]

    @property
    def partitions(self) -> int:
        """Of all its topics."""
        return sum(self.counts.values())

    def lanes(self, state: State) -> list[Lane]:
        """(topic, partition) in the order in which `ends` tells of them and `waiting` and `ahead` count them."""
        return state["lanes"]

    def idle_after(self, lanes: Sequence[Lane]) -> list[int] | None:
        """Per lane, how long (µs) its silence is borne; None: for ever."""
        known = self._idle_after
        return None if known is None else [known[topic] for topic, _ in lanes]

    def grow(self, state: State, partitions: int | Mapping[str, int], now: int) -> None:
        """The topics have so many partitions by now (never fewer). New ones begin where the watermark stands, see `order`.

        The state is changed in place. Raises Misused for a keyed topic: its keys would lie elsewhere than before.
        """
        for name, many in self._counted(partitions).items():
            if many > self.counts[name]:
                if self.topics[name].key is not None:
                    raise Misused(f"topic {name} is keyed: its {self.counts[name]} partitions do not grow to {many} under its rules")
                self.counts[name] = many
                self._arrange()
        if len(state["lanes"]) < self.partitions:
            known = set(state["lanes"])
            state["lanes"] += [lane for lane in _lanes(self.counts) if lane not in known]
            state["cut"] += [0] * (len(state["lanes"]) - len(state["cut"]))
            grow(state["order"], len(state["lanes"]), now)

    @property
    def idle(self) -> bool:
        """Whether silent partitions stop holding the watermark."""
        return self._idle_after is not None

    @property
    def by_meaning(self) -> frozenset[str]:
        """The names of the rules that ask for documents."""
        return frozenset(rule.name for rule in self.rules if any(given.kind is not None for given in rule.inputs))

    @property
    def facts(self) -> frozenset[str]:
        """The names of the facts that the rules look at."""
        return frozenset(name for reader in self._readers.values() for name in reader.facts)

    def facts_of(self, topic: str) -> frozenset[str]:
        """The same of one topic; where documents are made of its events, all that it is enriched with."""
        reader = self._readers[topic]
        return frozenset(self.topics[topic].enrich) if any(given.kind for given in reader.inputs) else frozenset(reader.facts)

    def signals(self, received: Sequence[Received], topic: str | None = None) -> Batch:
        """What the rules read off received events of one topic (None: that of the first); needs no state.

        Raises Gone (two brokers' lives in one batch).
        """
        name = topic or (received[0].position.topic if received and not self.single else self.topic.name)
        return self._readers[name].read(received)

    def near(self, batch: Batch, meaning: Meaning) -> list[float | None]:
        """How near the texts of a batch are to what the rules ask; needs no state, but the embedder. Raises Unavailable."""
        rules = [self.watching[name].rule for name, _ in self._reads[batch.topic]]
        asked = [(rule.question, text) for text in batch.texts if isinstance(rule := rules[text.place], Standing)]
        return meaning.near(asked)

    def weighed(self, batch: Batch, near: Sequence[float | None]) -> Batch:
        """The batch as the rules may see it: what is near enough counts with its similarity, what is not says nothing to them."""
        found: dict[int, dict[int, float]] = {}
        for text, similarity in zip(batch.texts, near, strict=True):
            rule = self.watching[self._reads[batch.topic][text.place][0]].rule
            if similarity is not None and isinstance(rule, Standing) and similarity >= rule.similarity:
                found.setdefault(text.offset, {})[text.place] = similarity
        places = [place for place, (name, n) in enumerate(self._reads[batch.topic]) if self.watching[name].rule.inputs[n].kind is not None]
        return batch._replace(signals=[_weighed(signal, places, found.get(signal.offset, {})) for signal in batch.signals], texts=())

    def reads(self, topic: str) -> list[tuple[str, int]]:
        """(rule name, input) in the order of the readings of a topic's signals."""
        return self._reads[topic]

    def start(self, now: int) -> State:
        """The state before the first event; `now` is the wall clock in µs."""
        lanes = _lanes(self.counts)
        return State(
            version=VERSION, topic=self.name, broker="", order=begin(len(lanes), now), lanes=lanes, cut=[0] * len(lanes),
            groups={rule.name: {} for rule in self.rules}, due=[], rules=self.declared, reads=self._reads,
            held=[], parting=[], news=[],
        )  # fmt: skip

    def step(self, state: State, batch: Batch, now: int, ends: Ends = ()) -> Step:
        """Take a batch in; `ends` as for `tick`. The state is changed in place. Raises Gone for a batch of another broker's life."""
        if batch.signals and state["broker"] != batch.broker:
            if state["broker"]:
                raise Gone(
                    f"the rules' state over {self.name} belongs to broker {state['broker']}, the events to {batch.broker}: "
                    "start detect on an empty recovery store"
                )
            state["broker"] = batch.broker
        assert not batch.texts, "texts are weighed first"
        pace = Pace(self, state, now, ends)
        pace.take(batch.topic, batch.signals)
        return pace.end()

    def tick(self, state: State, now: int, ends: Ends = ()) -> Step:
        """Let time pass: only the idle path can move anything. The state is changed in place.

        ends  per lane: wall clock (µs) when its source last stood at its end with all before it handed to `step`. A partition
              of which nothing is told is not idle, however silent: perhaps its events merely have not been read.
        """
        return Pace(self, state, now, ends).end()

    def finish(self, state: State, now: int) -> Step:
        """The stream is over for good (its broker goes): nothing follows, so all that waits is released. The state is changed in place."""
        order = state["order"]
        end = max((signal.time for signal in order["waiting"]), default=NEVER) + 1
        order["floors"] = [max(floor, end) for floor in order["floors"]]
        return Pace(self, state, now).end()

    def wake_at(self, state: State, now: int, ends: Ends = ()) -> int | None:
        """The wall clock (µs) at which `tick` may do something, at most a minute ahead; None: only an event can."""
        if state["parting"] or state["news"]:
            return now
        idle_after = self.idle_after(state["lanes"])
        if idle_after is None:
            return None
        deadline = state["due"][0][0] if state["due"] else None
        return wake_at(state["order"], deadline, now, self.horizon, idle_after, ends)

    def watermark(self, state: State) -> int:
        """The event time (µs) before which all is released; NEVER (hugely negative) before every partition has spoken."""
        return state["order"]["watermark"]

    def waiting(self, state: State) -> list[int]:
        """Per lane, how many signals wait for the watermark: a source should pause partitions that are far ahead."""
        counts = [0] * len(state["lanes"])
        for signal in state["order"]["waiting"]:
            counts[signal.partition] += 1
        return counts

    def ahead(self, state: State) -> list[int]:
        """Per lane, how many of its signals wait for other partitions alone: of the one that holds the watermark, none.

        So a source that pauses partitions far ahead never pauses the one that all wait for.
        """
        order, counts = state["order"], [0] * len(state["lanes"])
        for signal in order["waiting"]:
            if signal.time < order["floors"][signal.partition]:
                counts[signal.partition] += 1
        return counts

    def snapshot(self, state: State) -> bytes:
        """The immutable form of a state, for recovery."""
        return freeze(state, self._machines)

    def restore(self, saved: bytes, now: int) -> State:
        """The state of a snapshot, under the rules of today: a rule that is new or reads otherwise starts afresh.

        Silence counts from `now`, not from before the stop. A topic may have got more partitions since (a keyed one by a migration, for
        which the rules had seen all before); of one without a key this process may not know yet of all that it has. Raises Misused for a
        snapshot of another form or group, or of more partitions of a keyed topic than it has.
        """
        state = thaw(saved)
        sizes = {name: sum(name == topic for topic, _ in state["lanes"]) for name in self.topics}
        shrunk = [name for name, many in sizes.items() if self.topics[name].key is not None and many > self.counts[name]]
        if state["topic"] != self.name or shrunk:
            raise Misused(
                f"the snapshot is of {state['topic']} with {len(state['lanes'])} partitions; detect now has {self.name} with "
                f"{self.partitions}: start it on an empty recovery store"
            )
        self.grow(state, sizes, now)
        state["order"]["heard"] = [now] * len(state["lanes"])
        adopt(state, self.declared, self._reads, self._machines)
        return state


def _weighed(signal: Signal, places: Sequence[int], near: Mapping[int, float]) -> Signal:
    if signal.readings is None or not signal.is_event or not places:
        return signal
    readings = list(signal.readings)
    for place in places:
        reading = readings[place]
        readings[place] = (reading[0], near[place]) if reading is not None and place in near else None
    return signal._replace(readings=tuple(readings))


def groups_of(rules: Sequence[Rule]) -> list[tuple[list[Topic[Any]], list[Rule]]]:
    """The topics that rules connect, and the rules over each group. Each topic is in one group."""
    groups: list[tuple[dict[str, Topic[Any]], list[Rule]]] = []
    for rule in rules:
        topics, members = {given.topic.name: given.topic for given in rule.inputs}, [rule]
        for touched in [group for group in groups if group[0].keys() & topics.keys()]:
            groups.remove(touched)
            topics, members = {**touched[0], **topics}, [*touched[1], *members]
        groups.append((topics, members))
    place = {rule.name: n for n, rule in enumerate(rules)}
    return [(list(topics.values()), sorted(members, key=lambda rule: place[rule.name])) for topics, members in groups]


def _lanes(counts: Mapping[str, int]) -> list[Lane]:
    return [(name, partition) for name, many in counts.items() for partition in range(many)]


def _watching(rule: Rule) -> Watching:
    cool = 0 if rule.cool_down is None else duration(rule.cool_down)
    return Watching(rule, rule.machine(), cool, frozenset(given.topic.name for given in rule.inputs))


def _check(topics: Mapping[str, Topic[Any]], rules: Sequence[Rule]) -> None:
    seen: set[str] = set()
    over = ", ".join(topics)
    for rule in rules:
        for given in rule.inputs:
            if given.topic.name not in topics:
                raise Misused(f"rule {rule.name} is over {given.topic.name}, not over {over}: give it to that topic's detector")
        if rule.name in seen:
            raise Misused(f"two rules over {over} are called {rule.name!r}; give each a name of its own")
        seen.add(rule.name)
