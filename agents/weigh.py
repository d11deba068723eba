"""weigh: which of several options a situation calls for, by conditions, meaning and words. No model is asked, nothing is random.

Every option has statements that speak for it (see `statement`): the clauses of its description, and the sentences of the evidence
that name it. A statement speaks under conditions. Those with quantities are judged: the situation meets them or breaks them. Those
without are compared with the situation's clauses, by the cosine of their embeddings and by words in common. What is judged weighs
more than what is alike, and what is broken more than what is met; an option for "otherwise" has to stand back where another has a
reason. The probabilities are the softmax of the scores. Leaving a chunk of evidence out and weighing again says what it did.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from headwater.agents.clause import clauses, sentences, state, stems
from headwater.agents.quantity import Quantity, Range, bare, plain, quantities, read, verdict
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
"""What is left of a fit of a condition with quantities of which the situation says nothing."""
SUBJECT, SAME, NAMED = 0.4, 0.15, 0.7
"""From the first cosine on two quantities are about the same, and so are others of the situation that are less alike by the second
at most. The third is the least where one has all words of the other."""
UNKNOWN = 0.3
"""What scores lose if the situation says nothing of the quantities that the descriptions require."""
FACTS = 0.2
"""What a clause of a fact counts for, beside 1 of the situation itself."""
UNFIT = 2.0
"""The score below which a lone option rather does not fit than does."""


class Features(NamedTuple):
    """What there is to say for and against an option, each from 0 to 1.

    met      the best of its conditions in the evidence that the situation's quantities meet: the share of its quantities that are known
    broken   1 if some quantity breaks all its conditions that speak of it
    reason   how well some clause of the situation fits some statement; `read`, `described`: the mean over all clauses, in the evidence
             and in the description
    required, refused   the quantities of the description are met, are broken
    """

    met: float
    broken: float
    reason: float
    read: float
    described: float
    required: float
    refused: float


# Fitted (regularised multinomial regression, then softened: scores times 0.7) to some 150 situations at airports, none of them held out.
WEIGHTS = Features(1.4, -1.25, 2.9, 1.5, 0.75, 0.55, -2.1)
OTHERWISE_WEIGHTS = Features(0.65, -1.1, 1.4, 0.45, 0.7, 0.45, -2.1)
OTHERWISE_SCORE = 0.7
"""Reasons speak less for an option of "otherwise", which has some score for the want of others."""


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
    """The probabilities of the options in a situation. Option → description, which may be empty; one that begins with "otherwise"
    is for when no other has a reason. All texts are embedded in one call.

    `otherwise` is one more option for which nothing speaks: it is likely when no other fits (see `UNFIT`).
    """
    scale = Scale(situation, options, evidence, embed)

    def probabilities(leave_out: str = "") -> dict[str, float]:
        scores = {option: scale.score(option, leave_out) for option in options}
        return _softmax(scores if otherwise is None else {**scores, otherwise: UNFIT})

    return Weighed(probabilities(), {passage.id: probabilities(passage.id) for passage in evidence}, scale.loudest())


class Judged(NamedTuple):
    """What the situation makes of a condition with quantities: an outcome for each that it speaks of, and the units of these."""

    quantities: int
    outcomes: tuple[int, ...]
    units: tuple[str, ...]

    @property
    def outcome(self) -> int:
        """-1: a quantity breaks it; 1: all that are known meet it; 0: none is known, or one is not sure."""
        return min(self.outcomes, default=0)

    @property
    def met(self) -> float:
        return len(self.outcomes) / self.quantities if self.outcome > 0 else 0.0


class Piece(NamedTuple):
    """A clause without quantities, of the situation or of a fact: then `source` is its chunk."""

    text: str
    source: str = ""


class Scale:
    """A situation beside all statements: what of it meets, breaks or fits each. Built once, read for any part of the evidence."""

    def __init__(self, situation: str, options: Mapping[str, str], evidence: Sequence[Passage], embed: Embed) -> None:
        self.options = options
        self.statements = [*described(options), *(spoken for passage in evidence for spoken in stated(passage, options))]
        ways = [way for spoken in self.statements for way in spoken.ways]
        units = {quantity.range.unit for way in ways for quantity in way.quantities}
        self._case = read(situation, stated=False)
        self.pieces = _pieces(situation, evidence, {spoken.source for spoken in self.statements}, units)
        texts = [*(piece.text for piece in self.pieces), *(quantity.about for quantity in self._case)]
        texts += [text for way in ways for text in (*way.texts, *(quantity.about for quantity in way.quantities))]
        self._places = {text: n for n, text in enumerate(dict.fromkeys(filter(None, texts)))}
        vectors = embed(list(self._places))
        self._meaning: Matrix = (vectors @ vectors.T).astype(np.float64)
        self._words = {text: frozenset(stems(text)) for text in self._places}
        self._rarity = _rarity(list(self._words.values()))
        self.judged = [[self._judge(way) for way in spoken.ways] for spoken in self.statements]
        self.fits = self._fits()
        self._sure = 1 - UNKNOWN * float(np.mean([self._unknown(option) for option in options] or [0.0]))

    def score(self, option: str, leave_out: str = "") -> float:
        """How much speaks for an option, without the chunk `leave_out`."""
        back = OTHERWISE.match(self.options[option]) is not None
        weighted = zip(OTHERWISE_WEIGHTS if back else WEIGHTS, self.features(option, leave_out), strict=True)
        return self._sure * (OTHERWISE_SCORE * back + math.fsum(weight * value for weight, value in weighted))

    def features(self, option: str, leave_out: str = "") -> Features:
        """What speaks for and against an option, without the chunk `leave_out`."""
        about = [n for n, spoken in enumerate(self.statements) if spoken.option == option]
        own = [n for n in about if not self.statements[n].source]
        heard = [n for n in about if self.statements[n].source not in ("", leave_out)]
        rows = [n for n, piece in enumerate(self.pieces) if not leave_out or piece.source != leave_out]
        mass = np.array([FACTS if self.pieces[n].source else 1.0 for n in rows])
        said, mine = _best(self.fits[np.ix_(rows, heard)]), _best(self.fits[np.ix_(rows, own)])
        reason = float(np.maximum(said, mine)[mass == 1.0].max(initial=0.0))
        total = max(1.0, mass.sum())
        broken, refused = self._broken([*heard, *own]), self._broken(own)
        return Features(self._met(heard), broken, reason, float(mass @ said / total), float(mass @ mine / total), self._met(own), refused)

    def loudest(self) -> dict[str, Spoken]:
        """For each option the statement that speaks most for it: whose conditions are met, and which fits best."""
        loud = [self._met([n]) + self.fits[:, n].max(initial=0.0) for n in range(len(self.statements))]
        spoken: dict[str, Spoken] = {}
        for n in sorted(range(len(loud)), key=lambda n: (-loud[n], n)):
            spoken.setdefault(self.statements[n].option, self.statements[n])
        return spoken

    def _unknown(self, option: str) -> float:
        """The share of the quantities of an option's description that the situation says nothing of."""
        own = [j for n, said in enumerate(self.statements) if said.option == option and not said.source for j in self.judged[n]]
        required = sum(judged.quantities for judged in own)
        return 1 - sum(len(judged.outcomes) for judged in own) / required if required else 0.0

    def _met(self, among: Sequence[int]) -> float:
        return max((judged.met for n in among for judged in self.judged[n]), default=0.0)

    def _broken(self, among: Sequence[int]) -> float:
        best: dict[str, int] = {}
        for judged in (judged for n in among for judged in self.judged[n] if judged.outcome):
            for unit in judged.units:
                best[unit] = max(best.get(unit, -1), judged.outcome)
        return float(-1 in best.values())

    def _judge(self, way: Way) -> Judged:
        known = [(quantity, same) for quantity in way.quantities if (same := self._same(quantity))]
        outcomes = tuple(_compared([one.range for one in same], quantity.range) for quantity, same in known)
        return Judged(len(way.quantities), outcomes, tuple(quantity.range.unit for quantity, _ in known))

    def _same(self, rule: Quantity) -> list[Quantity]:
        """The situation's quantities that are of what a rule's quantity is of; if some are said to be the newest, these."""
        near = [(self._alike(one.about, rule.about), one) for one in self._case if one.range.unit == rule.range.unit]
        best = max((alike for alike, _ in near), default=0.0)
        same = [one for alike, one in near if alike >= max(SUBJECT, best - SAME)]
        return [one for one in same if one.latest] or same

    def _alike(self, case: str, rule: str) -> float:
        """How surely two quantities are about the same; one of which nothing is said may be about anything."""
        if not case or not rule:
            return SUBJECT
        cosine = float(self._meaning[self._places[case], self._places[rule]])
        return max(cosine, NAMED) if self._words[rule] <= self._words[case] else cosine

    def _fits(self) -> Matrix:
        """How well each piece of the situation fits each statement, an array of pieces by statements. Broken conditions fit nothing."""
        fits = np.zeros((len(self.pieces), len(self.statements)))
        states = [state(piece.text) == "now" for piece in self.pieces]
        for column, spoken in enumerate(self.statements):
            for way, judged in zip(spoken.ways, self.judged[column], strict=True):
                if judged.outcome < 0:
                    continue
                weight = UNTESTED if way.quantities and judged.outcome == 0 else 1.0
                for text in way.texts:
                    now = state(text) == "now"
                    for row, piece in enumerate(self.pieces):
                        fit = weight * self._fit(piece.text, text) * (1.0 if states[row] == now else OPPOSITE)
                        fits[row, column] = max(fits[row, column], fit)
        return fits

    def _fit(self, one: str, other: str) -> float:
        meaning = max(0.0, float(self._meaning[self._places[one], self._places[other]]))
        return (1 - WORDS) * meaning + WORDS * _overlap(self._words[one], self._words[other], self._rarity)


def _pieces(situation: str, evidence: Sequence[Passage], speaking: set[str], units: set[str]) -> list[Piece]:
    """The clauses of the situation and of the facts. Facts are chunks that speak for no option and stand under no heading: what stands
    under one tells rules. A clause with a quantity of which some rule speaks is judged by rules, and no piece."""
    facts = [passage for passage in evidence if passage.id not in speaking and not passage.title]
    parts = [(part, "") for sentence in sentences(situation) or [situation] for part in clauses(plain(sentence))]
    parts += [(part, one.id) for one in facts for sentence in sentences(one.text) for part in clauses(plain(sentence))]
    kept = [(bare(part), source) for part, source in parts if not units & {found.unit for found in quantities(part, stated=False)}]
    return [Piece(text, source) for text, source in kept if stems(text)]


def _compared(case: Sequence[Range], rule: Range) -> int:
    """The verdict on all that the situation says of one quantity. Where that cannot be one value, it is sure only if all agree."""
    common = functools.reduce(Range.both, case)
    outcomes = {verdict(one, rule) for one in case} if common.empty else {verdict(common, rule)}
    return outcomes.pop() if len(outcomes) == 1 else 0


def _best(fits: Matrix) -> Matrix:
    best: Matrix = fits.max(axis=1, initial=0.0)
    return best


def _rarity(texts: Sequence[frozenset[str]]) -> dict[str, float]:
    """The weight of each word, squared: it weighs more the rarer it is among the texts."""
    count = Counter(word for text in texts for word in text)
    return {word: math.log((len(texts) + 1) / (users + 0.5)) ** 2 for word, users in count.items()}


def _overlap(one: frozenset[str], other: frozenset[str], squares: Mapping[str, float]) -> float:
    """The cosine of two bags of weighted words."""
    common = one & other
    if not common:
        return 0.0
    both, mine, theirs = (math.fsum(squares[word] for word in words) for words in (common, one, other))
    return both / math.sqrt(mine * theirs)


def _softmax(scores: Mapping[str, float]) -> dict[str, float]:
    weights = {option: math.exp(score - max(scores.values())) for option, score in scores.items()}
    total = math.fsum(weights.values())
    # Rounded: the last bits of a matrix product differ between machines, a recorded probability should not.
    return {option: round(weight / total, 6) for option, weight in weights.items()}
