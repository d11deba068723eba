"""A benchmark as data: what it measures, what it must reach, and how its rounds become one figure. Pure."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from headwater.flows.bench.bed import Bed


class Round(NamedTuple):
    """What one round measured, in the bench's unit: the figure, its reference taken in the same round, and others, by name."""

    value: float
    reference: float | None = None
    beside: Mapping[str, float] = {}


_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "≥": lambda figure, bound: figure >= bound,
    "≤": lambda figure, bound: figure <= bound,
    ">": lambda figure, bound: figure > bound,
    "<": lambda figure, bound: figure < bound,
    "=": lambda figure, bound: figure == bound,
}


class Target(NamedTuple):
    """What must hold. `figure` is `value`, `ratio` (to the reference), the name of a figure beside, or `×NAME` (the ratio to that one).

    `where_measured`: it is about something that need not be installed, and counts only where it was measured.
    """

    sign: Literal["≥", "≤", ">", "<", "="]
    bound: float
    figure: str = "ratio"
    unit: str = ""
    where_measured: bool = False

    def holds(self, figure: float | None) -> bool:
        """A figure that is not there holds nothing."""
        if figure is None:
            return self.where_measured
        return _HOLDS[self.sign](figure, self.bound)

    def __str__(self) -> str:
        if self.figure == "ratio":
            return f"{self.sign} {self.bound:g}×"
        if self.figure.startswith("×"):
            return f"{self.sign} {self.bound:g}× {self.figure[1:]}"
        name = "" if self.figure == "value" else f"{self.figure} "
        return f"{name}{self.sign} {self.bound:,g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Bench:
    """One benchmark.

    rounds     yields a round for as long as it is asked; the first is a warm-up, and closing it lets go of everything
    reference  what the reference is, in words; empty: there is none
    """

    name: str
    what: str
    unit: str
    targets: tuple[Target, ...]
    rounds: Callable[[Bed], Iterator[Round]]
    reference: str = ""

    @property
    def target(self) -> str:
        return ", ".join(map(str, self.targets))


@dataclass(frozen=True)
class Finding:
    """What a benchmark found. `why` says why it could not run; it then has no rounds, and met nothing."""

    bench: Bench
    rounds: tuple[Round, ...] = ()
    why: str = ""

    @property
    def value(self) -> float | None:
        return _median([each.value for each in self.rounds])

    @property
    def reference(self) -> float | None:
        return _median([each.reference for each in self.rounds if each.reference is not None])

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios: both halves of a round met the same noise."""
        return _median([each.value / each.reference for each in self.rounds if each.reference])

    @property
    def beside(self) -> dict[str, float]:
        names = dict.fromkeys(name for each in self.rounds for name in each.beside)
        return {name: statistics.median(each.beside[name] for each in self.rounds if name in each.beside) for name in names}

    def figure(self, name: str) -> float | None:
        """The figure that a target is about; None if it was not measured."""
        if name == "value":
            return self.value
        if name == "ratio":
            return self.ratio
        if name.startswith("×"):
            return _median([each.value / each.beside[name[1:]] for each in self.rounds if each.beside.get(name[1:])])
        return self.beside.get(name)

    @property
    def meets(self) -> bool:
        return bool(self.rounds) and all(target.holds(self.figure(target.figure)) for target in self.bench.targets)

    def as_data(self) -> dict[str, Any]:
        """For JSON; figures are null if the benchmark could not run, the reference and ratio also if it has none."""
        return {
            "name": self.bench.name, "what": self.bench.what, "value": self.value, "unit": self.bench.unit,
            "reference": self.reference, "ratio": self.ratio, "target": self.bench.target, "meets": self.meets,
            "beside": self.beside, "rounds": len(self.rounds), "why": self.why,
        }  # fmt: skip


def _median(figures: list[float]) -> float | None:
    return statistics.median(figures) if figures else None
