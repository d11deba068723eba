"""`Standing`: a query that stands: something new is said that is near a described situation, and nothing cancels it."""

from collections import deque
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any, cast

from headwater.agents.machine import Entry, Fired, Machine, mind
from headwater.agents.meaning import Question
from headwater.agents.tally import Tally, cancel, freeze, hit, lapse, thaw
from headwater.agents.when import ONE, Expression, Input, When, check_input, check_rule, check_whens, counted, shape_of
from headwater.enrichers.document import DocumentType
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused
from headwater.lineage.select import Select


@dataclass(frozen=True, eq=False)
class Standing:
    """Triggers by meaning: `Standing("spill", of=report, like="oil or fuel on the water", similarity=0.55, within="1h", per="harbour")`.

    of           the document type, one of the App's: a document is near by its nearest chunk, cut and embedded as for the index
    like         the situation in words
    similarity   cosine from which a chunk is near, 0 to 1; what is right hangs on the embedder: see what search gives for `like`
    where        which events are looked at all, a polars expression over the model's fields and the facts; None: all of the type
    within       length of the window, (t − within, t]
    unless       an event that cancels: what was near is forgotten, and a running episode closed
    at_least     near documents that must be in the window before an episode opens
    update_step  how many more than reported are reported again; None: never
    per, select, version, cool_down as for Rate

    The episode closes when the last near document is `within` past. `value` of the activation is the similarity of the newest, `count` and
    `total` are the near documents in the window, which it names; where `unless` closes, that event, and where the window has emptied none.
    Every event counts that is near, one that says again what was said before as well. Of an event that makes no document nothing is said.
    """

    name: str
    _: KW_ONLY
    of: DocumentType
    like: str
    similarity: float
    within: str
    where: Expression | None = None
    per: str | Expression | None = None
    unless: When | None = None
    at_least: int = 1
    update_step: float | None = None
    version: str = "1"
    select: Select | None = None
    cool_down: str | None = None

    def __post_init__(self) -> None:
        check_rule(self.name, self.cool_down, self.update_step, self.at_least, within=self.within)
        if not isinstance(self.of, DocumentType):
            raise Misused(f"rule {self.name}: of is a {type(self.of).__name__}; give a document type, a function declared with @document")
        if not self.like.strip():
            raise Misused(f"rule {self.name}: like is empty; describe the situation in a sentence")
        if not 0 < self.similarity <= 1:
            raise Misused(f"rule {self.name}: similarity={self.similarity} is a cosine; write a number above 0, at most 1")
        check_input(self.name, self.inputs[-1]._replace(value=None))
        if self.unless is not None:
            check_whens(self.name, self.per, unless=self.unless)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What cancels first: an event that does both begins anew."""
        near = Input(self.of.topic, self.where, ONE, self.per, self.select or self.of.select, self.of)
        return (near,) if self.unless is None else (counted(self.unless, self.per, self.select), near)

    @property
    def question(self) -> Question:
        return Question(self.of, self.like)

    @property
    def shape(self) -> str:
        return shape_of("Standing", self.inputs, self.of.name, self.like, self.within)

    def machine(self) -> Machine:
        return _Watching(self, duration(self.within))


class _Watching:
    """An entry's value is its similarity."""

    def __init__(self, rule: Standing, within: int) -> None:
        self.rule, self.within = rule, within

    def begin(self) -> Tally:
        return cast(Tally, {**mind(), "matches": deque()})

    def take(self, known: Tally, stream: int, entry: Entry) -> Fired | None:
        if stream == 0 and self.rule.unless is not None:
            return cancel(known, (entry,))
        return hit(known, (entry,), self.within, self.rule, entry.value)

    def due(self, known: Tally) -> int | None:
        return known["matches"][-1][0].time + self.within if known["matches"] else None

    def expire(self, known: Tally, moment: int) -> Fired | None:
        return lapse(known, self.within, moment)

    def is_empty(self, known: Tally) -> bool:
        return not known["matches"]

    def freeze(self, known: Tally) -> dict[str, Any]:
        return freeze(known)

    def thaw(self, saved: dict[str, Any]) -> Tally:
        return cast(Tally, thaw(saved))
