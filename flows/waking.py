"""What wakes deciders: activations, and the verdicts of reviews, each to the partition of the agent that is to have it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from headwater.agents.activation import Activation, activation_of
from headwater.agents.agent import Agent
from headwater.agents.decider import Item
from headwater.agents.hops import bounded
from headwater.agents.review import REQUESTED
from headwater.agents.verdict import JUDGED, Verdict, verdict_of
from headwater.flows.batch import Batch
from headwater.flows.steps import bury_all
from headwater.lineage.decode import Failure
from headwater.lineage.errors import HeadwaterError, Invalid
from headwater.lineage.event import Event, Message, Position, from_binary
from headwater.lineage.record import Record, outcomes, run_of

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

REVIEWS_FLOW = "decide"
"""What reads the reviews, for all agents together."""


class Woken(msgspec.Struct):
    """What one agent is to take of one partition, and the offset after all activations. `records`: what was read, and what ended before
    it came to the agent. They go along, so that nobody tells how a position ended before it is told that it was read."""

    partition: int
    items: list[Item] = []
    records: list[Record] = []
    verdicts: list[Verdict] = []
    next: int = 0


class Judging(msgspec.Struct):
    """Verdicts that were read, and of the topic of reviews which positions were read and how they ended."""

    verdicts: list[Verdict]
    records: list[Record]


def wake_step(run: "Runtime", agent: Agent) -> Callable[[list[Batch]], list[tuple[str, Woken]]]:
    """Batches of activations → what each partition's decider is to take, keyed so that each has one owner."""

    def step(batches: list[Batch]) -> list[tuple[str, Woken]]:
        return [(f"{agent.name}/{batch.partition}", _woken(run, agent, batch)) for batch in batches]

    return step


def _woken(run: "Runtime", agent: Agent, batch: Batch) -> Woken:
    """What the decider takes. What is no activation, and what came through too many decisions, ends here as dead letters.

    Every agent reads every activation; one of those that end it buries it.
    """
    items: list[Item] = []
    failures: list[Failure] = []
    ended: list[Record] = []
    flow, now = f"decide/{agent.name}", run.clock()
    for message in batch.plain():
        position = Position(batch.broker, *message[:3])
        event, activation, error = _read(run, agent, message)
        if error is None:
            assert activation is not None
            items.append(Item(activation, str(position), now))
            continue
        if _first_to_end(run, activation) is agent:
            failures.append(Failure(message, position, error, event))
        parents = (activation.id,) if activation is not None else ()
        ended.append(run_of("outcome", flow, position, position.offset + 1, 1, now, "dead_lettered", parents=parents))
    records = [*batch.records(flow, now), *bury_all(flow, failures, run.writer, now, own=True), *ended]
    return Woken(batch.partition, items, records, next=batch.next)


def _read(run: "Runtime", agent: Agent, message: Message) -> tuple[Event | None, Activation | None, HeadwaterError | None]:
    """The event, its activation, and why this agent does not decide on it."""
    event: Event | None = None
    try:
        event = from_binary(message.headers, message.value, topic=message.topic, appended=message.timestamp * 1000)
        activation = activation_of(event)
    except HeadwaterError as error:
        return event, None, error
    if not agent.hears(activation):
        return event, activation, None
    return event, activation, bounded(activation.rule, activation.key, activation.via, run.settings.agents_hops)


def _first_to_end(run: "Runtime", activation: Activation | None) -> Agent:
    """The agent that buries it: every agent reads every activation, and several may end it."""
    return next(each for each in run.app.agents if activation is None or each.hears(activation))


def verdict_step(run: "Runtime") -> Callable[[list[Batch]], list[Judging]]:
    """Batches of reviews → the verdicts among them. A question to a person is nothing for us."""
    return lambda batches: [_judging(run, batch) for batch in batches]


def judge_step(agent: Agent) -> Callable[[list[Judging]], list[tuple[str, Woken]]]:
    """Verdicts → what each partition's decider of one agent is to take."""

    def step(judging: list[Judging]) -> list[tuple[str, Woken]]:
        mine = [verdict for each in judging for verdict in each.verdicts if verdict.agent == agent.name]
        return [(f"{agent.name}/{verdict.partition}", Woken(verdict.partition, verdicts=[verdict])) for verdict in mine]

    return step


def _judging(run: "Runtime", batch: Batch) -> Judging:
    found: list[Verdict] = []
    failures: list[Failure] = []
    ended: list[tuple[Position, str]] = []
    now = run.clock()
    for message in batch.plain():
        position = Position(batch.broker, *message[:3])
        event: Event | None = None
        try:
            event = from_binary(message.headers, message.value, topic=message.topic, appended=message.timestamp * 1000)
            verdict = _verdict(run, event, str(position))
        except HeadwaterError as error:
            failures.append(Failure(message, position, error, event))
            ended.append((position, "dead_lettered"))
            continue
        found += [] if verdict is None else [verdict]
        ended.append((position, "passed"))
    run.meter.reached(REVIEWS_FLOW, batch.topic, batch.partition, batch.next)
    buried = bury_all(REVIEWS_FLOW, failures, run.writer, now, own=True)
    return Judging(found, [*batch.records(REVIEWS_FLOW, now), *buried, *outcomes(REVIEWS_FLOW, ended, now)])


def _verdict(run: "Runtime", event: Event, position: str) -> Verdict | None:
    """The verdict, if the event is one. Raises Invalid."""
    if event.type == REQUESTED:
        return None
    if event.type != JUDGED:
        raise Invalid(f"event {event.id}: {event.type!r} is no type of this topic; {REQUESTED} and {JUDGED} are")
    verdict = verdict_of(event, position)
    names = [agent.name for agent in run.app.agents]
    if verdict.agent not in names or not 0 <= verdict.partition < run.app.activations:
        raise Invalid(
            f"verdict on {verdict.review}: there is no {verdict.agent}/{verdict.partition}; agents are {', '.join(names) or 'none'}, "
            f"partitions 0 to {run.app.activations - 1}"
        )
    return verdict
