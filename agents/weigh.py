"""weigh: which of several options a situation calls for, by conditions, meaning and words. No model is asked, nothing is random.

Every option has statements that speak for it (see `statement`): the clauses of its description, and the sentences of the evidence
that name it. A statement speaks under conditions. Those with quantities are judged: the situation meets them or breaks them. Those
without are compared with the situation's clauses, by the cosine of their embeddings and by words in common. What is judged weighs
more than what is alike, and what is broken more than what is met; an option for "otherwise" has to stand back where another has a
reason. The probabilities are the softmax of the scores. Leaving a chunk of evidence out and weighing again says what it did.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from headwater.agents.clause import clauses, sentences, state, stems
from headwater.agents.quantity import Quantity, bare, plain, quantities, read, verdict
from headwater.agents.statement import OTHERWISE, Passage, Spoken, Way, described, stated

Vectors: TypeAlias = npt.NDArray[np.float32]
Matrix: TypeAlias = npt.NDArray[np.float64]
Embed: TypeAlias = Callable[[Sequence[str]], Vectors]
"""Texts → unit vectors, a row each."""

WORDS = 0.4
"""How much of a fit is words in common; the rest is meaning (cosine of the embeddings)."""
OPPOSITE = 0.4
"""What is left of a fit between what is the case and what is not, is over or lies ahead."""
UNTESTED = 0.6
"""What is left of a fit of a statement with quantities of which the situation says nothing."""
SUBJECT, SAME = 0.4, 0.15
"""From this cosine on two quantities are about the same; and so are others of the situation that are this much less alike."""
NAMED = 0.7
"""The least cosine of two of which one has all the words of the other."""
FACTS = 0.2
UNFIT = 0.35


class Features(NamedTuple):
    """What there is to say for and against an option, each from 0 to 1.

    met      the best of its statements in the evidence whose quantities the situation has: the share of them that is there
    broken   whether quantities of the situation break all statements of the evidence that speak of them
    reason   the best fit of a clause of the situation to a statement, `alike` the mean of them
    required, refused   the quantities of its description are met, or broken
    """

    met: float
    broken: float
    reason: float
    alike: float
    described: float
    required: float
    refused: float


WEIGHTS = Features(1.8, -2.2, 3.7, 2.2, 1.5, 0.8, -2.6)
OTHERWISE_WEIGHTS = Features(1.1, -1.0, 1.7, 0.3, 1.0, 0.3, -2.5)
BIAS = 0.3


@dataclass(frozen=True)
class Weighed:
    """The probability of every option; what it would be without each chunk; which statement spoke most for each option."""

    probabilities: dict[str, float]
    without: dict[str, dict[str, float]] = field(default_factory=dict)
    spoken: dict[str, Spoken] = field(default_factory=dict)

    @property
    def choice(self) -> str:
        """The most probable option; of equals the first declared."""
        return best_of(self.probabilities)


def best_of(probabilities: Mapping[str, float]) -> str:
    """The most probable option; of equals the first."""
    return max(probabilities, key=lambda option: probabilities[option])


def weigh(
    situation: str, options: Mapping[str, str], evidence: Sequence[Passage], embed: Embed, *, otherwise: str | None = None
) -> Weighed:
    """The probabilities of the options in a situation. Option → description, which may be empty.

    `otherwise` is one more option for which nothing speaks: it is likely when no other fits (see `UNFIT`).
    """
    scale = Scale(situation, options, evidence, embed)

    def probabilities(leave_out: str = "") -> dict[str, float]:
        scores = {option: scale.score(option, leave_out) for option in options}
        return _softmax(scores if otherwise is None else {**scores, otherwise: UNFIT})

    return Weighed(probabilities(), {passage.id: probabilities(passage.id) for passage in evidence}, scale.loudest())


class Piece(NamedTuple):
    text: str
    source: str


class Scale:
    """A situation beside all statements: what of it meets, breaks or resembles each. Computed once, read for any part of the evidence."""

    def __init__(self, situation: str, options: Mapping[str, str], evidence: Sequence[Passage], embed: Embed) -> None:
        self.options = options
        self.statements = [*described(options), *(spoken for passage in evidence for spoken in stated(passage, options))]
        speaking = {spoken.source for spoken in self.statements}
        told = [Piece(part, "") for sentence in (sentences(situation) or [situation]) for part in clauses(plain(sentence))]
        facts = [
            Piece(part, one.id)
            for one in evidence if one.id not in speaking and not one.title
            for sentence in sentences(one.text) for part in clauses(plain(sentence))
        ]  # fmt: skip
        case = read(situation, stated=False)
        ways = [way for spoken in self.statements for way in spoken.ways]
        texts = [*(bare(p.text) for p in told + facts), *(q.about for q in case)]
        texts += [text for way in ways for text in (*way.texts, *(q.about for q in way.quantities))]
        places = {text: n for n, text in enumerate(dict.fromkeys(text for text in texts if text))}
        self._places, self._vectors = places, embed(list(places))
        self._case = case
        self._words = {text: frozenset(stems(text)) for text in places}
        self._weight = _rarity(list(self._words.values()))
        self.verdicts = [[self._judge(way) for way in spoken.ways] for spoken in self.statements]
        ruled = {q.range.unit for way in ways for q in way.quantities}
        self.pieces = [p for p in told + facts if stems(bare(p.text)) and not ruled & {one.unit for one in quantities(p.text, stated=False)}]
        self.fits = self._fits()

    def _cosine(self, one: str, other: str) -> float:
        return float(self._vectors[self._places[one]] @ self._vectors[self._places[other]])

    def _alike(self, case: str, rule: str) -> float:
        """How surely two quantities are about the same; nothing said may be anything."""
        if not case or not rule:
            return SUBJECT
        cosine = self._cosine(case, rule)
        return max(cosine, NAMED) if set(stems(rule)) <= set(stems(case)) else cosine

    def _judge(self, way: Way) -> "Verdict":
        results, used = [], []
        for rule in way.quantities:
            same = self._same(rule)
            if same:
                used += same
                results.append(_compare(same, rule))
        return Verdict(len(way.quantities), tuple(results), tuple(q.range.unit for q in used), tuple(used))

    def _same(self, rule: Quantity) -> list[Quantity]:
        """The situation's quantities that a statement's quantity speaks of."""
        near = [(self._alike(one.about, rule.about), one)
                for one in self._case if one.range.unit == rule.range.unit]
        best = max((cosine for cosine, _ in near), default=0.0)
        if best < SUBJECT:
            return []
        same = [one for cosine, one in near if cosine >= max(SUBJECT, best - SAME)]
        return [one for one in same if one.latest] or same

    def _fits(self) -> Matrix:
        """How well each piece of the situation fits each statement: pieces by statements."""
        fits = np.zeros((len(self.pieces), len(self.statements)))
        texts = [bare(piece.text) for piece in self.pieces]
        states = [state(text) for text in texts]
        for column, spoken in enumerate(self.statements):
            for way, judged in zip(spoken.ways, self.verdicts[column], strict=True):
                if judged.outcome < 0:
                    continue
                weight = 1.0 if judged.outcome > 0 or not way.quantities else UNTESTED
                for other in way.texts:
                    there = state(other)
                    for row, text in enumerate(texts):
                        fit = (1 - WORDS) * max(0.0, self._cosine(text, other)) + WORDS * _overlap(self._words[text], self._words[other], self._weight)
                        fits[row, column] = max(fits[row, column], weight * fit * (1.0 if (there == "now") == (states[row] == "now") else OPPOSITE))
        return fits

    def features(self, option: str, leave_out: str = "") -> Features:
        own = [n for n, spoken in enumerate(self.statements) if spoken.option == option and not spoken.source]
        read = [n for n, spoken in enumerate(self.statements) if spoken.option == option and spoken.source and spoken.source != leave_out]
        rows = [n for n, piece in enumerate(self.pieces) if not leave_out or piece.source != leave_out]
        mass = np.array([FACTS if self.pieces[n].source else 1.0 for n in rows])
        said, mine = self._best(rows, read), self._best(rows, own)
        told = mass == 1.0
        reason = max(said[told].max(initial=0.0), mine[told].max(initial=0.0))
        total = mass.sum() or 1.0
        met, broken = self._judged(read, own)
        required, refused = self._judged(own, own)
        return Features(met, broken, float(reason), float(mass @ said / total), float(mass @ mine / total), required, refused)

    def _best(self, rows: Sequence[int], among: Sequence[int]) -> Matrix:
        if not len(rows) or not len(among):
            return np.zeros(len(rows))
        best: Matrix = self.fits[np.ix_(rows, among)].max(axis=1)
        return best

    def _judged(self, among: Sequence[int], own: Sequence[int]) -> tuple[float, float]:
        ways = [way for n in among for way in self.verdicts[n]]
        met = max((way.share for way in ways if way.outcome > 0), default=0.0)
        units: dict[str, list[int]] = {}
        for way in (*ways, *(way for n in own for way in self.verdicts[n])):
            if way.outcome:
                for unit in way.units:
                    units.setdefault(unit, []).append(way.outcome)
        return met, float(any(max(outcomes) < 0 for outcomes in units.values()))

    def score(self, option: str, leave_out: str = "") -> float:
        stands_back = bool(OTHERWISE.match(self.options[option]))
        weights = OTHERWISE_WEIGHTS if stands_back else WEIGHTS
        return BIAS * stands_back + math.fsum(w * x for w, x in zip(weights, self.features(option, leave_out), strict=True))

    def loudest(self) -> dict[str, Spoken]:
        """For each option the statement that speaks most for it: one that is met, else the one that fits best."""
        loud = [
            (max((way.share * (way.outcome > 0) for way in self.verdicts[n]), default=0.0) + self.fits[:, n].max(initial=0.0), -n)
            for n in range(len(self.statements))
        ]
        spoken: dict[str, Spoken] = {}
        for n in sorted(range(len(self.statements)), key=lambda n: loud[n], reverse=True):
            spoken.setdefault(self.statements[n].option, self.statements[n])
        return spoken


class Verdict(NamedTuple):
    """What the situation makes of a condition: of how many quantities, the outcome for those that it has, and which."""

    quantities: int
    results: tuple[int, ...]
    units: tuple[str, ...]
    used: tuple[Quantity, ...]

    @property
    def outcome(self) -> int:
        """-1: a quantity breaks it; 1: all that are there meet it; 0: none is there, or it is not sure."""
        return min(self.results, default=0)

    @property
    def share(self) -> float:
        return len(self.results) / self.quantities if self.quantities else 0.0


def _compare(same: Sequence[Quantity], rule: Quantity) -> int:
    """All that the situation says of one quantity belongs together; where it cannot, nothing is sure unless all agree."""
    common = same[0].range
    for one in same[1:]:
        common = common.both(one.range)
    if not common.empty:
        return verdict(common, rule.range)
    outcomes = {verdict(one.range, rule.range) for one in same}
    return outcomes.pop() if len(outcomes) == 1 else 0


def _rarity(texts: Sequence[frozenset[str]]) -> Callable[[str], float]:
    """A word weighs more the rarer it is among the texts."""
    count: dict[str, int] = {}
    for text in texts:
        for word in text:
            count[word] = count.get(word, 0) + 1
    return lambda word: math.log((len(texts) + 1) / (count.get(word, 0) + 0.5))


def _overlap(one: frozenset[str], other: frozenset[str], weight: Callable[[str], float]) -> float:
    """The cosine of two bags of weighted words."""
    lengths = math.sqrt(_square(one, weight) * _square(other, weight))
    return _square(one & other, weight) / lengths if lengths else 0.0


def _square(words: frozenset[str], weight: Callable[[str], float]) -> float:
    return math.fsum(weight(word) ** 2 for word in words)


def _softmax(scores: Mapping[str, float]) -> dict[str, float]:
    weights = {option: math.exp(score - max(scores.values())) for option, score in scores.items()}
    total = math.fsum(weights.values())
    # Rounded: the last bits of a matrix product differ between machines, a recorded probability should not.
    return {option: round(weight / total, 6) for option, weight in weights.items()}
