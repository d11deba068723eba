"""A budget per UTC day: tokens, and what they cost. What is spent is written with each decision, so that no crash forgets or doubles it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from headwater.lineage.errors import Misused

DAY = 86_400_000_000
SMALLEST_PART = 100
"""A decision on its way counts as this part of the budget at least, whatever those before it took."""

Name: TypeAlias = Literal["tokens", "cost"]


@dataclass(frozen=True)
class Budget:
    """What an agent may spend in one UTC day; beyond it the fallback decides, or a person is asked.

    tokens   tokens read and written by the model
    cost     in whatever currency `prices` are
    prices   cost of one of what a decision names, such as {"input_tokens": 3e-6, "output_tokens": 15e-6}; what a decision itself calls
             `cost` is added as it is
    """

    tokens: int | None = None
    cost: float | None = None
    prices: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens is None and self.cost is None:
            raise Misused("Budget: give tokens= or cost= (or both)")
        for name, most in self.limits.items():
            if not most > 0:
                raise Misused(f"Budget: {name}={most} must be above 0")
        if any(not price >= 0 for price in self.prices.values()):
            raise Misused(f"Budget: prices={dict(self.prices)} must not be below 0")

    @property
    def limits(self) -> dict[Name, float]:
        found: dict[Name, float] = {}
        if self.tokens is not None:
            found["tokens"] = float(self.tokens)
        if self.cost is not None:
            found["cost"] = float(self.cost)
        return found

    def amounts(self, told: Mapping[str, float]) -> dict[str, float]:
        """What an attempt took of this budget, from the amounts it names."""
        tokens = told.get("input_tokens", 0.0) + told.get("output_tokens", 0.0)
        cost = told.get("cost", 0.0) + sum(price * told.get(name, 0.0) for name, price in self.prices.items())
        return {"tokens": tokens, "cost": cost}


class Spent(msgspec.Struct, frozen=True):
    """What was spent on one UTC day (days since 1970)."""

    day: int = 0
    tokens: float = 0.0
    cost: float = 0.0

    def plus(self, day: int, amounts: Mapping[str, float]) -> "Spent":
        """A later day begins at nothing; a clock that is set back counts for the day that has begun."""
        before = self if day <= self.day else Spent(day)
        return Spent(before.day, before.tokens + amounts.get("tokens", 0.0), before.cost + amounts.get("cost", 0.0))

    def amount(self, name: Name) -> float:
        return self.tokens if name == "tokens" else self.cost


def later(one: Spent, other: Spent) -> Spent:
    """Of two readings of the same running total the later one: totals only grow within a day."""
    if one.day != other.day:
        return max(one, other, key=lambda spent: spent.day)
    return Spent(one.day, max(one.tokens, other.tokens), max(one.cost, other.cost))


class Purse:
    """What one agent spends in this process: a running total for each journal that it is written to, and what is on its way.

    A decision that begins is taken to need as much as the dearest before it, and a hundredth of the budget at least. So even many at
    once go beyond the budget by no more than the last of them; the nearer its end, the fewer are on their way at once.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._totals: dict[str, Spent] = {}
        self._dearest: dict[str, float] = {}
        self._out = 0

    def look(self, now: int) -> Literal["free", "busy", "spent"]:
        """Whether an attempt may begin at `now` (µs). `busy`: what is on its way may use up the rest, ask again; `spent`: not today."""
        left = [(most, self.spent(name, now), self._guess(name, most)) for name, most in self._budget.limits.items()]
        if any(spent >= most for most, spent, _ in left):
            return "spent"
        if any(spent + self._out * guess >= most for most, spent, guess in left):
            return "busy"
        return "free"

    def take(self) -> None:
        """Begin an attempt."""
        self._out += 1

    def end(self, journal: str, now: int, told: Mapping[str, float]) -> Spent:
        """An attempt ended, having taken these amounts. Gives the journal's running total."""
        self._out -= 1
        amounts = self._budget.amounts(told)
        for name, amount in amounts.items():
            self._dearest[name] = max(self._dearest.get(name, 0.0), amount)
        total = self._totals.get(journal, Spent()).plus(now // DAY, amounts)
        self._totals[journal] = total
        return total

    def learn(self, journal: str, totals: Iterable[Spent]) -> None:
        """What a journal or a snapshot says was spent. Told twice, it counts once."""
        for total in totals:
            self._totals[journal] = later(self._totals.get(journal, Spent()), total)

    def total(self, journal: str) -> Spent:
        return self._totals.get(journal, Spent())

    def spent(self, name: Name, now: int) -> float:
        """What was spent of it on the day of `now`, over all journals of this process."""
        today = max(now // DAY, max((total.day for total in self._totals.values()), default=0))
        return sum(total.amount(name) for total in self._totals.values() if total.day == today)

    def _guess(self, name: Name, most: float) -> float:
        return max(self._dearest.get(name, 0.0), most / SMALLEST_PART)
