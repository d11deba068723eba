"""What a measured level means for an episode: it opens, worsens by a step, or is over."""

from typing import Protocol

from headwater.agents.activation import Phase
from headwater.agents.machine import Mind

_STEP_SLACK = 1e-9  # 0.3 − 0.2 is a hair less than 0.1


class Levels(Protocol):
    """The levels of a rule. With `below` an episode opens downwards."""

    @property
    def opens_at(self) -> float: ...

    @property
    def closes_at(self) -> float: ...

    @property
    def update_step(self) -> float | None: ...

    @property
    def below(self) -> bool: ...


def judge(rule: Levels, known: Mind) -> Phase | None:
    """What the level of a key means, given whether an episode runs and how far it was reported."""
    sign = -1 if rule.below else 1
    level = known["level"]
    if not known["episode"]:
        return "opened" if sign * level >= sign * rule.opens_at else None
    if sign * level <= sign * rule.closes_at:
        return "closed"
    return "updated" if grew(sign * (level - known["reported"]), rule.update_step) else None


def grew(by: float, step: float | None) -> bool:
    """Whether a level rose far enough over the reported one to be reported again."""
    return step is not None and by >= step - _STEP_SLACK
