"""What agents go by from former lives of the broker: their journals went with it, so lineage tells what was spent and is remembered."""

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import structlog

from headwater.agents.agent import Agent
from headwater.agents.budget import DAY, Spent
from headwater.agents.memory import Memory, Suspended, memory_of
from headwater.flows.steps import to_lineage
from headwater.lineage.former import Remembered, Spending, remembered_before, spent_before
from headwater.lineage.record import Record, fact

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.decide")


def recall_former(run: "Runtime") -> None:
    """Give this process's agents what decisions of former lives say, before the first decision of this one. Each agent's is recorded.

    What a kill kept from landing is lost with the broker, as the decisions are. Raises Unavailable.
    """
    now = run.clock()
    day = now // DAY
    known = {each.name: each for agent in run.app.agents for each in agent.line}
    spent = {each.agent: each for each in spent_before(run.store, run.broker, day) if each.agent in known}
    kept = _memories(run, now)
    records: list[Record] = []
    for name, agent in known.items():
        memories, lapses = kept.get(name, ([], []))
        if name in spent and agent.budget is not None:
            run.ports.reins.learn(agent, Spent(day, spent[name].tokens, spent[name].cost))
        if memories:
            run.ports.memories.learn(name, memories)
        if memories or (name in spent and agent.budget is not None):
            records.append(_recalled(run, agent, spent.get(name), len(memories), now))
        records += [lapse_record(f"decide/{name}", each, now) for each in lapses]
    if records:
        run.writer.write(to_lineage("decide", records, run.writer.largest, run.id))


def _memories(run: "Runtime", now: int) -> dict[str, tuple[list[Memory], list[Suspended]]]:
    """Agent → its memories, and the suspensions among them that have ended unanswered since."""
    found: defaultdict[str, tuple[list[Memory], list[Suspended]]] = defaultdict(lambda: ([], []))
    names = {agent.name for agent in run.app.agents}
    for told in remembered_before(run.store, run.broker, now):
        memory = _read(told) if told.agent in names else None
        if memory is None:
            continue
        memories, lapses = found[told.agent]
        suspended = memory.suspended
        if suspended is not None and (told.lapsed or suspended.until <= now):
            lapses += [] if told.lapsed else [suspended]
            memory = msgspec.structs.replace(memory, suspended=None)
        memories.append(memory)
    return found


def _read(told: Remembered) -> Memory | None:
    """None, and a warning, for what this version cannot read."""
    try:
        return memory_of(told.kept, told.values)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        _log.warning("a memory of a former life of the broker cannot be read", agent=told.agent, error=str(error))
        return None


def _recalled(run: "Runtime", agent: Agent, spent: Spending | None, memories: int, now: int) -> Record:
    """That an agent goes on with what lineage held, not the journal."""
    told = {"tokens": spent.tokens, "cost": spent.cost} if spent is not None else {}
    words = [f"{amount:,g} {name} spent today" for name, amount in told.items()] + [f"{memories} memories"]
    text = f"{agent.name} goes on with what lineage tells of former lives of the broker: {', '.join(words)}"
    data = {"text": text, "agent": agent.name, "spent": told, "memories": memories}
    return fact("note", f"decide/{agent.name}", "recall", f"{run.broker}:{agent.name}", logged=now, ordinal=run.id, data=data)


def lapse_record(flow: str, suspended: Suspended, now: int) -> Record:
    """That nothing came which a suspended agent waited for; it stands beside the decision that suspended."""
    text = f"suspended until {' or '.join(suspended.awaits)}: nothing came in time, it is not waited for any more"
    ref = f"{suspended.decision}:lapsed"
    return fact("note", flow, "suspend", ref, logged=now, parents=(suspended.decision,), data={"text": text, "awaits": suspended.awaits})
