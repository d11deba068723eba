"""weigh: which of several options a situation calls for, by meaning, words and quantities. No model is asked, nothing is random.

Every option has statements that speak for it: the clauses of its description, and the sentences of the evidence that name it
("at one mile or less, hold departures at the gate"). The situation is cut into sentences; evidence that names no option (a flight,
a reading of the weather) adds to it as a fact. Each piece of the situation finds what fits it best among an option's clauses, and among
its sentences of the evidence; an option's score is the mean of these fits, and the probabilities are the softmax of the scores.
Leaving a chunk of evidence out and weighing again says what it did to the choice.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from headwater.agents.quantity import agreement, quantities

Vectors: TypeAlias = npt.NDArray[np.float32]
Matrix: TypeAlias = npt.NDArray[np.float64]
Embed: TypeAlias = Callable[[Sequence[str]], Vectors]
"""Texts → unit vectors, a row each."""

# Chosen on the half of the reference application's situations that is not held out and on others of that kind, each inside a plateau.
WORDS = 0.5
"""How much of a fit is words in common; the rest is meaning (cosine of the embeddings)."""
SPECIFIC = 0.5
"""How much of a word's weight is that it tells the options apart; the rest is that it is rare."""
CONTRADICTION = 0.3
"""Taken off a fit whose quantities contradict each other."""
AGREEMENT = 0.25
"""Added to a fit whose quantities agree, as a share of it."""
EVIDENCE = 0.7
"""How much of a score is what the evidence says; the rest is the description. Without evidence the description is all."""
UNSPOKEN = 0.2
"""The fit at most of an option that the evidence does not speak of."""
LEAD = 0.6
"""What a sentence of the situation counts for, beside the one before it: the first says what the matter is."""
FACTS = 0.2
"""The weight of all facts together; that of the situation is 1."""
TEMPERATURE = 0.07
UNFIT = 0.35
"""The score below which a lone option rather does not fit than does."""

_STOP = frozenset(
    ("a", "an", "the", "at", "in", "on", "of", "to", "for", "and", "or", "is", "are", "be", "with", "by", "was", "were", "it", "its")
)  # fmt: skip
_STOP |= {"as", "that", "this", "has", "have", "had", "from"}
_NEGATIONS = frozenset(("not", "never", "no", "dont", "without"))
_SUFFIXES = ("ings", "ing", "ed", "es", "s", "e")


class Passage(NamedTuple):
    """A chunk of evidence: its id and text."""

    id: str
    text: str


class Spoken(NamedTuple):
    """A statement, and the option it speaks for; `source` is the chunk it stands in, empty for the option's description."""

    text: str
    option: str
    source: str = ""


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
    statements = [*described(options), *(spoken for passage in evidence for spoken in stated(passage, options))]
    speaking = {spoken.source for spoken in statements}
    facts = [passage for passage in evidence if passage.id not in speaking and passage.text.strip()]
    told = sentences(situation) or [situation]
    pieces = [*told, *(passage.text for passage in facts)]
    fits = _fits(pieces, statements, options, embed, told=len(told))
    masses = _masses(len(told), len(facts))

    def probabilities(leave_out: str = "") -> dict[str, float]:
        kept = [n for n, spoken in enumerate(statements) if not leave_out or spoken.source != leave_out]
        rows = [n for n in range(len(pieces)) if n < len(told) or facts[n - len(told)].id != leave_out]
        scores = _scores(fits[np.ix_(rows, kept)], masses[rows], [statements[n] for n in kept], options)
        return _softmax(scores if otherwise is None else {**scores, otherwise: UNFIT})

    without = {passage.id: probabilities(passage.id) for passage in evidence}
    return Weighed(probabilities(), without, _loudest(fits, masses, statements))


def described(options: Mapping[str, str]) -> list[Spoken]:
    """The statements of the descriptions: each clause of them, and the option's own name."""
    clauses = [Spoken(option, option) for option in options]
    for option, description in options.items():
        parts = re.split(r"[:;,.]\s+|\.$", description)
        clauses.extend(Spoken(part.strip(), option) for part in parts if len(part.strip()) > 2)
    return clauses


def stated(passage: Passage, options: Mapping[str, str]) -> list[Spoken]:
    """The statements of a chunk: its sentences that name one option, do not negate it, and name no other."""
    found = []
    for sentence in sentences(passage.text):
        named = [option for option in options if _names(sentence, option)]
        if len(named) == 1:
            found.append(Spoken(sentence, named[0], passage.id))
    return found


def sentences(text: str) -> list[str]:
    """The sentences and list items of a text."""
    found: list[str] = []
    for line in text.splitlines():
        item = re.sub(r"^\s*(?:\d+\.|[-*#]+)\s+", "", line.strip())
        found.extend(part for part in re.split(r"(?<=[.!?;:])\s+(?=[A-Z0-9])", item) if len(part) > 15)
    return found


def stems(text: str) -> list[str]:
    """The words of a text that carry meaning, cut to their stems, in order."""
    return [_stem(word) for word in re.findall(r"[a-z]+", text.lower().replace("'", "")) if word not in _STOP]


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def _names(sentence: str, option: str) -> bool:
    """Whether a sentence holds every word of an option's name, not within three words after a negation."""
    words, wanted = stems(sentence), set(stems(option))
    if not wanted or not wanted <= set(words):
        return False
    first = min(words.index(word) for word in wanted)
    return not _NEGATIONS & set(words[max(0, first - 3) : first])


def _fits(pieces: Sequence[str], statements: Sequence[Spoken], options: Mapping[str, str], embed: Embed, *, told: int) -> Matrix:
    """How well each piece of the situation fits each statement: an array of pieces by statements."""
    vectors = embed([*pieces, *(spoken.text for spoken in statements)])
    meaning = vectors[: len(pieces)] @ vectors[len(pieces) :].T
    words = [frozenset(stems(text)) for text in (*pieces, *(spoken.text for spoken in statements))]
    weight = _word_weights(words, options)
    found = [quantities(piece, stated=False) for piece in pieces]
    case = [here for ranges in found[:told] for here in ranges]
    fits = np.zeros((len(pieces), len(statements)))
    for column, spoken in enumerate(statements):
        ranges = quantities(spoken.text, stated=True)
        for row in range(len(pieces)):
            fit = (1 - WORDS) * float(meaning[row, column]) + WORDS * _overlap(words[row], words[len(pieces) + column], weight)
            if agreement(case if row < told else found[row], ranges) < 0:
                fit -= CONTRADICTION
            elif agreement(found[row], ranges) > 0:
                fit += AGREEMENT * max(fit, 0.0)
            fits[row, column] = fit
    return fits


def _word_weights(texts: Sequence[frozenset[str]], options: Mapping[str, str]) -> Callable[[str], float]:
    """A word weighs more the rarer it is among the texts, and the fewer options use it of themselves."""
    count: dict[str, int] = {}
    for text in texts:
        for word in text:
            count[word] = count.get(word, 0) + 1
    own = [frozenset(stems(f"{option} {description}")) for option, description in options.items()]
    most = math.log(len(own) + 0.5)

    def weight(word: str) -> float:
        rare = math.log((len(texts) + 1) / (count.get(word, 0) + 0.5))
        users = sum(word in words for words in own)
        specific = math.log((len(own) + 0.5) / (users + 0.5)) / most if users else 0.3
        return rare * (1 - SPECIFIC + SPECIFIC * specific)

    return weight


def _overlap(one: frozenset[str], other: frozenset[str], weight: Callable[[str], float]) -> float:
    """The cosine of two bags of weighted words."""
    lengths = math.sqrt(_square(one, weight) * _square(other, weight))
    return _square(one & other, weight) / lengths if lengths else 0.0


def _square(words: frozenset[str], weight: Callable[[str], float]) -> float:
    return math.fsum(weight(word) ** 2 for word in words)


def _masses(told: int, facts: int) -> Matrix:
    leading = np.array([LEAD**n for n in range(told)])
    return np.concatenate([leading / leading.sum(), np.full(facts, FACTS / max(1, facts))])


def _scores(fits: Matrix, masses: Matrix, statements: Sequence[Spoken], options: Mapping[str, str]) -> dict[str, float]:
    """Option → score, from the fits of pieces to statements."""
    scores = {}
    heard = any(spoken.source for spoken in statements)
    for option in options:
        own = _best(fits, [spoken.option == option and not spoken.source for spoken in statements])
        if heard:
            said = [spoken.option == option and bool(spoken.source) for spoken in statements]
            read = _best(fits, said) if any(said) else np.minimum(own, UNSPOKEN)
            own = (1 - EVIDENCE) * own + EVIDENCE * read
        scores[option] = float(masses @ own / masses.sum())
    return scores


def _best(fits: Matrix, among: Sequence[bool]) -> Matrix:
    best: Matrix = fits[:, among].max(axis=1)
    return best


def _softmax(scores: Mapping[str, float]) -> dict[str, float]:
    weights = {option: math.exp((score - max(scores.values())) / TEMPERATURE) for option, score in scores.items()}
    total = math.fsum(weights.values())
    # Rounded: the last bits of a matrix product differ between machines, a recorded probability should not.
    return {option: round(weight / total, 6) for option, weight in weights.items()}


def _loudest(fits: Matrix, masses: Matrix, statements: Sequence[Spoken]) -> dict[str, Spoken]:
    """For each option the statement that fits the situation best."""
    totals: Any = masses @ fits
    spoken: dict[str, Spoken] = {}
    for n in sorted(range(len(statements)), key=lambda n: (-totals[n], n)):
        spoken.setdefault(statements[n].option, statements[n])
    return spoken
