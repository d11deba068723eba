"""Reins: what holds the agents of this process back, each by its own breaker, rate and budget. It is asked before an agent is."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from headwater.agents.agent import Agent
from headwater.agents.breaker import Circuit, Standing, admit, ended
from headwater.agents.budget import Name, Purse, Spent
from headwater.agents.journal import Decided, Entry
from headwater.agents.rate import Turns
from headwater.lineage.duration import format_time

FORMER = ""
"""The name that the spending of former lives goes by: no journal has it."""
_LOOK_US = 250_000
"""How soon to ask again where nobody knows when the way is free."""


class Held(NamedTuple):
    """Why an agent may not be asked now; `wait` µs until it is worth asking again. `patient`: the agent declares to wait."""

    reason: Literal["breaker", "budget", "busy"]
    text: str
    wait: int = 0
    patient: bool = False


class Pass(NamedTuple):
    """An attempt may begin; it is given back with `Rein.end`."""

    era: int


_FREE = Pass(0)


class Rein:
    """What holds one agent. Thread-safe: partitions open in other threads than decisions are made in, and status is read from a third."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._circuit = Circuit()
        self._turns = Turns(agent.limit) if agent.limit is not None else None
        self._purse = Purse(agent.budget) if agent.budget is not None else None
        self._lock = threading.Lock()
        self._free = agent.breaker is None and agent.budget is None
        self.slack = self._free and self._turns is None
        """Whether nothing ever holds it: it need not be asked."""

    def turn(self, now: int) -> int:
        """How many µs from `now` this decision's turn is."""
        if self._turns is None:
            return 0
        with self._lock:
            return self._turns.take(now) - now

    def look(self, now: int) -> Held | None:
        """Whether an attempt could begin; nothing changes."""
        if self._free:
            return None
        with self._lock:
            return self._held(now)

    def admit(self, now: int) -> Pass | Held:
        """Begin an attempt."""
        if self._free:
            return _FREE
        with self._lock:
            held = self._held(now)
            if held is not None:
                return held
            if self._purse is not None:
                self._purse.take()
            if self.agent.breaker is None:
                return Pass(0)
            self._circuit, era, _ = admit(self.agent.breaker, self._circuit, now)
            assert era is not None, "looked at just now"
            return Pass(era)

    def end(self, passed: Pass, journal: str, now: int, told: Mapping[str, float], *, failed: bool | None) -> str:
        """An attempt ended, having taken these amounts; `failed=None`: it was cut short. Gives words where the circuit changed by it."""
        if self._free:
            return ""
        with self._lock:
            if self._purse is not None:
                self._purse.end(journal, now, told)
            if self.agent.breaker is None:
                return ""
            before = self._circuit
            self._circuit = ended(self.agent.breaker, before, passed.era, now, failed=failed)
            if self._circuit.standing == before.standing:
                return ""
            return f"the circuit of {self.agent.name}, {_spoken(before.standing)} before, is {_spoken(self._circuit.standing)} now"

    def learn(self, journal: str, totals: Iterable[Spent], decided: Iterable[int] = ()) -> None:
        """What was spent, and when was decided, before this process began."""
        with self._lock:
            if self._purse is not None:
                self._purse.learn(journal, totals)
            if self._turns is not None:
                self._turns.learn(decided)

    def total(self, journal: str) -> Spent | None:
        """The running total of one journal; None: the agent has no budget."""
        with self._lock:
            return self._purse.total(journal) if self._purse is not None else None

    def told(self, now: int) -> dict[str, Any]:
        """How it stands, for people: `circuit`, `waiting_turns`, `spent` with `limits` of the UTC day."""
        with self._lock:
            found: dict[str, Any] = {}
            if self.agent.breaker is not None:
                found["circuit"] = self._circuit.standing
                if self._circuit.standing == "open":
                    found["open_until"] = format_time(self._circuit.until)
            if self._turns is not None:
                found["rate"], found["waiting_turns"] = self.agent.rate, self._turns.ahead(now)
            if self._purse is not None and self.agent.budget is not None:
                limits = self.agent.budget.limits
                found["budget"] = {name: {"spent": self._purse.spent(name, now), "limit": most} for name, most in limits.items()}
            return found

    def _held(self, now: int) -> Held | None:
        found = self._purse.look(now) if self._purse is not None else "free"
        if found == "spent":
            return Held("budget", self._spent_text(now))
        opened = self._open(now)
        if opened is not None or found == "free":
            return opened
        return Held("busy", f"the budget of {self.agent.name} may be used up by what is on its way", _LOOK_US, patient=True)

    def _spent_text(self, now: int) -> str:
        assert self._purse is not None and self.agent.budget is not None
        limits = self.agent.budget.limits.items()
        spent = [f"{_amount(name, self._purse.spent(name, now))} of {_amount(name, most)}" for name, most in limits]
        return f"{self.agent.name} has spent its budget of this day: {', '.join(spent)}"

    def _open(self, now: int) -> Held | None:
        breaker = self.agent.breaker
        if breaker is None:
            return None
        _, era, wait = admit(breaker, self._circuit, now)
        if era is not None:
            return None
        text = f"the circuit of {self.agent.name} is {_spoken(self._circuit.standing)}: it keeps failing"
        return Held("breaker", text, wait or _LOOK_US, patient=breaker.otherwise == "wait")


class Reins:
    """The reins of all agents of a process, made as they are asked for."""

    def __init__(self) -> None:
        self._reins: dict[str, Rein] = {}
        self._lock = threading.Lock()

    def of(self, agent: Agent) -> Rein:
        found = self._reins.get(agent.name)
        if found is not None:
            return found
        with self._lock:
            found = self._reins.get(agent.name)
            if found is None:
                found = self._reins[agent.name] = Rein(agent)
            return found

    def recall(self, agent: Agent, journal: str, kept: Mapping[str, Spent], entries: Iterable[Entry]) -> None:
        """What a snapshot and the journal behind it say of the time before this process."""
        decisions = [entry for entry in entries if isinstance(entry, Decided)]
        for each in agent.line:
            totals = [decided.spent[each.name] for decided in decisions if each.name in decided.spent]
            turns = [decided.decided for decided in decisions if each is agent or decided.by == each.name]
            self.of(each).learn(journal, [kept[each.name], *totals] if each.name in kept else totals, turns)

    def learn(self, agent: Agent, spent: Spent) -> None:
        """What an agent spent on a day by journals of former lives of the broker, which nobody reads any more."""
        self.of(agent).learn(FORMER, [spent])

    def totals(self, agent: Agent, journal: str) -> dict[str, Spent]:
        """What the agent and its fallbacks have spent by a journal: agent name → running total, for those with a budget."""
        if all(each.budget is None for each in agent.line):
            return {}
        found = ((each.name, self.of(each).total(journal)) for each in agent.line)
        return {name: total for name, total in found if total is not None}


def journal_name(agent: Agent, position: str = "") -> str:
    """Where an agent's decisions over the activation at a position (a token) are written: `AGENT/PARTITION`."""
    return f"{agent.name}/{position.split('/')[-2]}" if "/" in position else agent.name


def _spoken(standing: Standing) -> str:
    return standing.replace("_", "-")


def _amount(name: Name, amount: float) -> str:
    return f"{amount:,.0f} tokens" if name == "tokens" else f"{amount:,.4f} in cost"
