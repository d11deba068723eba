"""signals: received events → what the rules read off them. Polars once per batch, over the columns that the rules name, no more.

Pure but for one thing learned: the types of facts whose enricher does not tell them, kept so that a batch of nulls does not change them.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl

from headwater.agents.columns import ROW, UTC_TIME, columns_of, facts_type, series
from headwater.agents.hops import hops_of
from headwater.agents.machine import Rule
from headwater.agents.meaning import Text
from headwater.agents.order import Reading, Signal
from headwater.agents.when import Input
from headwater.enrichers.document import Document
from headwater.lineage.decode import Received
from headwater.lineage.errors import Gone, HeadwaterError, RuleFailed
from headwater.lineage.select import Select
from headwater.lineage.topic import Topic

_GUESSES: tuple[Any, ...] = (pl.String, UTC_TIME, pl.Date, pl.List(pl.String))
ALL = "all"
"""The key of a rule without `per`."""


class Batch(NamedTuple):
    """Signals of one topic in the order they were received, and the events that no rule could read.

    texts  what is still to be weighed before the rules see the signals, see `Detector.weighed`
    """

    broker: str
    topic: str
    signals: list[Signal]
    failures: list[tuple[Received, HeadwaterError]]
    texts: tuple[Text, ...] = ()


class Reader:
    """Reads batches of one topic for its rules: one reading for each input over it, in the order of the rules."""

    def __init__(self, topic: Topic[Any], rules: Sequence[Rule]) -> None:
        over = inputs_over(topic, rules)
        self._begin(topic, [given for _, _, given in over], [rule.name for rule, _, _ in over])

    @classmethod
    def of(cls, topic: Topic[Any], inputs: Sequence[Input], names: Sequence[str]) -> "Reader":
        """One that reads for these inputs; `names` of the rules they are of."""
        reader = cls.__new__(cls)
        reader._begin(topic, inputs, names)
        return reader

    def _begin(self, topic: Topic[Any], inputs: Sequence[Input], names: Sequence[str]) -> None:
        self.topic = topic
        self.inputs, self.names = tuple(inputs), tuple(names)
        self.answers = [answer for ordinal, given in enumerate(inputs) for answer in _answers(ordinal, given)]
        columns = dict.fromkeys(name for answer in self.answers for name in answer.meta.root_names())
        fields = columns_of(topic.model)
        self.fields = {name: fields[name] for name in columns if name in fields}
        self.facts = {name: facts_type(topic.enrich[name]) for name in columns if name not in fields}
        self._kinds = [(place, given.kind) for place, given in enumerate(inputs) if given.kind is not None]
        self._selecting = _selecting(topic, self.inputs, self.names)

    def read(self, received: Sequence[Received]) -> Batch:
        """The signals of received events. Raises Gone if they come from two brokers' lives."""
        brokers = {one.position.broker for one in received}
        if len(brokers) > 1:
            raise Gone(f"one batch of {self.topic.name} comes from two brokers' lives: {', '.join(sorted(brokers))}")
        events = [one for one in received if not one.is_mark]
        readings, failed = self._readings(events)
        failures = [(events[row], error) for row, error in sorted(failed.items())]
        rows = iter(readings)
        signals: list[Signal] = []
        failing = {id(one) for one, _ in failures}
        for one in received:
            if one.is_mark:
                signals.append(Signal(one.event.time, "", one.position.partition, one.position.offset))
                continue
            read = next(rows)
            if id(one) not in failing:
                signals.append(self._signal(one, read))
        texts = tuple(self._texts(events, readings)) if self._kinds else ()
        return Batch(next(iter(brokers), ""), self.topic.name, signals, failures, texts)

    def _signal(self, one: Received, readings: tuple[Reading | None, ...]) -> Signal:
        key, event = self.topic.key, one.event
        thing = event.id if key is None else str(getattr(one.model, key))
        hops = hops_of(event.extensions, event.correlationid, event.traceparent)
        place = one.position.partition, one.position.offset
        return Signal(event.time, event.id, *place, thing, one.appended, readings, hops, one.reads or None)

    def _texts(self, events: list[Received], readings: list[tuple[Reading | None, ...]]) -> Iterator[Text]:
        """The texts of the documents that events make, for the readings that hang on them. One that makes none is near nothing."""
        for one, read in zip(events, readings, strict=True):
            for place, kind in self._kinds:
                if read[place] is None or not kind.wants(one.event):
                    continue
                with contextlib.suppress(Exception):  # the index, which makes the same document, tells of it
                    said = kind(one.model, one.facts)
                    if isinstance(said, Document):
                        yield Text(one.position.offset, place, str(said.id), said.text)

    def _readings(self, events: list[Received]) -> tuple[list[tuple[Reading | None, ...]], dict[int, HeadwaterError]]:
        """Per event one reading per input; and row → error of those that could not be read."""
        if not events or not self.inputs:
            return [() for _ in events], {}
        if self._selecting:
            return self._selected(events)
        failed: dict[int, HeadwaterError] = {}
        answered = self._answer(self._frame(events), 0, failed)
        read = [_read(answered, ordinal, given) for ordinal, given in enumerate(self.inputs)]
        return list(zip(*read, strict=True)), failed

    def _selected(self, events: list[Received]) -> tuple[list[tuple[Reading | None, ...]], dict[int, HeadwaterError]]:
        """The same where rules select: what a rule did not select it does not see, and so cannot stumble over."""
        readings: list[list[Reading | None]] = [[None] * len(self.inputs) for _ in events]
        failed: dict[int, HeadwaterError] = {}
        for select, ordinals, reader in self._selecting:
            rows = [row for row, one in enumerate(events) if select is None or select.wants_event(one.event)]
            read, stumbled = reader._readings([events[row] for row in rows])
            for row, own in zip(rows, read, strict=True):
                for ordinal, reading in zip(ordinals, own, strict=True):
                    readings[row][ordinal] = reading
            failed.update({rows[row]: error for row, error in stumbled.items()})
        return [tuple(each) for each in readings], failed

    def _frame(self, events: list[Received]) -> pl.DataFrame:
        columns = [pl.repeat(True, len(events), eager=True).alias(ROW)]
        for name, kind in self.fields.items():
            columns.append(series(name, [getattr(one.model, name) for one in events], kind))
        for name, kind in self.facts.items():
            column = series(name, [one.facts.get(name) for one in events], kind)
            if (learnt := _learn(kind, column.dtype)) is not None:  # another worker's batch of nulls takes nothing back
                self.facts[name] = learnt
            columns.append(column)
        return pl.DataFrame(columns)

    def _answer(self, frame: pl.DataFrame, first: int, failed: dict[int, HeadwaterError]) -> pl.DataFrame:
        """All rules' answers. Where an expression raises, halving finds the rows it raises on; those answer null."""
        answered = _select(frame, self.answers)
        if isinstance(answered, pl.DataFrame):
            return answered
        if frame.height == 1:
            return self._answer_one(frame, first, failed)
        half = frame.height // 2
        return pl.concat([self._answer(frame[:half], first, failed), self._answer(frame[half:], first + half, failed)])

    def _answer_one(self, frame: pl.DataFrame, row: int, failed: dict[int, HeadwaterError]) -> pl.DataFrame:
        """One event's answers, each by itself. One that stumbles where facts are missing altogether answers null."""
        answers: dict[str, Any] = {}
        for place, (answer, (name, kind)) in enumerate(zip(self.answers, _answer_types(self.inputs), strict=True)):
            answered = _select(frame, [answer])
            if isinstance(answered, pl.DataFrame):
                answers[name] = answered[name]
                continue
            answers[name] = pl.Series(name, [None], dtype=kind)
            if not any(frame[named][0] is None for named in answer.meta.root_names() if named in self.facts):
                failed.setdefault(row, self._failure(self.inputs[place // 2], self.names[place // 2], name.startswith("key"), answered))
        return pl.DataFrame(answers)


    def _failure(self, given: Input, rule: str, key: bool, error: Exception) -> RuleFailed:
        """Which rule stumbled, over which of its expressions, why, and what helps."""
        known = {"where": given.where, "value": given.value} if not key else {"per": given.per}
        said = ", ".join(f"{name}={expression}" for name, expression in known.items() if isinstance(expression, pl.Expr))
        reason = str(error).partition("\n")[0]
        return RuleFailed(
            f"rule {rule} over {self.topic.name} cannot be evaluated for this event ({said}): {reason}; "
            "have the expression give null where it cannot tell, such as by cast(…, strict=False)"
        )


def inputs_over(topic: Topic[Any], rules: Sequence[Rule]) -> list[tuple[Rule, int, Input]]:
    """The inputs of rules that look at a topic, each with its number within its rule, in the order in which they are read."""
    return [(rule, n, given) for rule in rules for n, given in enumerate(rule.inputs) if given.topic.name == topic.name]


def _selecting(topic: Topic[Any], inputs: Sequence[Input], names: Sequence[str]) -> list[tuple[Select | None, list[int], Reader]]:
    """If inputs select, for each way to: the ordinals of its inputs, and a reader of their own."""
    ways = dict.fromkeys(given.select for given in inputs)
    if not any(ways):
        return []
    groups = [(way, [ordinal for ordinal, given in enumerate(inputs) if given.select == way]) for way in ways]
    return [
        (way, ordinals, Reader.of(topic, [inputs[n]._replace(select=None) for n in ordinals], [names[n] for n in ordinals]))
        for way, ordinals in groups
    ]


def _answers(ordinal: int, given: Input) -> list[pl.Expr]:
    """An input's key and number: its value or null, or 1 or 0 for whether it matched."""
    key = pl.lit(ALL) if given.per is None else (pl.col(given.per) if isinstance(given.per, str) else given.per).cast(pl.String)
    where = pl.lit(True) if given.where is None else given.where.fill_null(False)
    if given.value is None:
        number = where.cast(pl.Float64)
    else:
        value = given.value.cast(pl.Float64)
        number = pl.when(where & value.is_finite()).then(value).otherwise(None)
    return [key.alias(f"key {ordinal}"), number.alias(f"number {ordinal}")]


def _answer_types(inputs: Sequence[Input]) -> list[tuple[str, Any]]:
    return [(f"{what} {ordinal}", kind) for ordinal in range(len(inputs)) for what, kind in (("key", pl.String), ("number", pl.Float64))]


def _read(answered: pl.DataFrame, ordinal: int, given: Input) -> list[Reading | None]:
    numbers = answered[f"number {ordinal}"]
    if given.value is None:
        numbers = numbers.fill_null(0.0)  # a condition that cannot be told does not hold
    pairs = zip(answered[f"key {ordinal}"].to_list(), numbers.to_list(), strict=True)
    return [None if key is None or number is None else (key, number) for key, number in pairs]


def _select(frame: pl.DataFrame, answers: Sequence[pl.Expr]) -> pl.DataFrame | Exception:
    """The answers, or why there are none. Facts that are null throughout have no type: whichever makes the expression run is theirs."""
    first: Exception | None = None
    for guess in (None, *_GUESSES):
        try:
            typed = frame if guess is None else _typed(frame, guess)
            return typed.select(ROW, *answers).drop(ROW)
        except Exception as error:  # a rule's Python function may raise anything
            first = first or error
        if guess is None and not _has_untyped(frame):
            break
    return first or RuleFailed("no answer")


def _has_untyped(frame: pl.DataFrame) -> bool:
    return any(field.dtype == pl.Null for kind in frame.dtypes if isinstance(kind, pl.Struct) for field in kind.fields)


def _typed(frame: pl.DataFrame, guess: Any) -> pl.DataFrame:
    """The frame with the untyped parts of its structs taken as `guess`."""
    kinds = {
        name: pl.Struct({field.name: guess if field.dtype == pl.Null else field.dtype for field in kind.fields})
        for name, kind in frame.schema.items()
        if isinstance(kind, pl.Struct)
    }
    return frame.cast(kinds)  # type: ignore[arg-type]


def _learn(kind: Any, seen: Any) -> Any:
    """Keep a type once it holds no nulls-only part; numbers seen as integers first may turn out floats, so only whole structs are kept."""
    if kind is not None or not isinstance(seen, pl.Struct):
        return kind
    return None if any(field.dtype in (pl.Null, pl.Int64) for field in seen.fields) else seen
