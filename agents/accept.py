"""accept: whether a verdict counts, and what the journal is to keep of it."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headwater.agents.agent import Agent
from headwater.agents.authorise import principal_of
from headwater.agents.book import Ended
from headwater.agents.context import Ports
from headwater.agents.course import Course, asks, effects_of
from headwater.agents.journal import Calling, Decided, Judged, Outgoing
from headwater.agents.review import resource_of
from headwater.agents.trail import Trail
from headwater.agents.verdict import LONGEST_REASON, Verdict
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.record import Record
from headwater.lineage.topic import Topic

OF_A_CALL = "what became of a call can be approved or declined; it takes no other choice"


class Refused(Exception):
    """This verdict does not count; `records` are the rulings that say so."""

    def __init__(self, why: str, records: tuple[Record, ...] = ()) -> None:
        super().__init__(why)
        self.records = records


def judged(agent: Agent, ports: Ports, ended: Ended | None, course: Course | None, verdict: Verdict) -> Judged | None:
    """The entry for the journal; None: it stands there already. Raises Refused."""
    if course is None or course.decided is None:
        known = f"the decision ended {ended.state} before" if ended is not None else "no review of this id waits here"
        raise Refused(f"{known}; a review is judged once")
    before = course.judged.get(verdict.review)
    if before is not None:
        if verdict.position and before.position != verdict.position:
            raise Refused(f"the review was {before.verdict} by {before.by or 'headwater'} before; a review is judged once")
        return None
    if asks(course) != verdict.review:
        raise Refused("the decision does not wait for this review")
    if verdict.verdict == "approved":
        _fits(agent, course.decided, verdict)
        _allowed(agent, ports, course, verdict)
    elif verdict.choice is not None:
        raise Refused(f"a review that is {verdict.verdict} takes no other choice")
    return Judged(
        id=course.decided.id, review=verdict.review, verdict=verdict.verdict, at=verdict.at or ports.clock(), by=verdict.by,
        reason=verdict.reason[:LONGEST_REASON], choice=verdict.choice, position=verdict.position, counted=ports.clock(),
    )  # fmt: skip


def _fits(agent: Agent, decided: Decided, verdict: Verdict) -> None:
    """Whether the other choice, if there is one, can take the place of the decision's."""
    if verdict.choice is None:
        return
    if decided.review is None or decided.review.id != verdict.review:
        raise Refused(OF_A_CALL)
    topics = {topic.name: topic for topic in agent.publishes}
    why = unfit(verdict.choice, decided.choice, [(event.topic, msgspec.json.decode(event.data)) for event in decided.effects], topics)
    if why:
        raise Refused(why)


def unfit(choice: Any, instead_of: Any, published: Iterable[tuple[str, Any]], topics: Mapping[str, Topic[Any]]) -> str:
    """Why another choice cannot take the place of a decision's in the events that carry it (topic and data of each); empty: it can."""
    carrying = [topic for topic, data in published if instead_of is not None and data == instead_of]
    if not carrying:
        return "no event of this decision carries its choice, so another one would change nothing; decline it"
    for name in carrying:
        if name in topics:
            try:
                topics[name].decode(msgspec.json.encode(choice))
            except HeadwaterError as error:
                return f"the other choice does not fit the topic {name}: {error}"
    return ""


def _allowed(agent: Agent, ports: Ports, course: Course, verdict: Verdict) -> None:
    """Each effect is asked for again: what a policy forbids, an approval does not allow."""
    decided = course.decided
    assert decided is not None
    principal = principal_of(_by(agent, decided.by))
    trail = Trail(agent.name, decided.id, decided.activation, ports.clock)
    refusals = []
    effects: list[Outgoing | Calling] = [*effects_of(course), *decided.calls]
    for effect in effects:
        about: dict[str, Any] = {"activation": decided.activation, "key": decided.key, "ordinal": effect.ordinal, "approved_by": verdict.by}
        ruling = ports.authorise(principal, *resource_of(effect), about)
        trail.ruling(principal, *resource_of(effect), ruling)
        if not ruling.allowed:
            refusals.append(ruling.reason)
    if refusals:
        told = "; ".join(dict.fromkeys(refusals))
        raise Refused(f"{told}; what a policy forbids, an approval does not allow", tuple(trail.records))


def _by(agent: Agent, name: str) -> Agent:
    """The agent or the fallback that decided; the agent itself if there is none of that name any more."""
    each: Agent | None = agent
    seen: set[str] = set()
    while each is not None and each.name not in seen:
        if each.name == name:
            return each
        seen.add(each.name)
        each = each.fallback
    return agent
