"""Performing: a decision's effects, in order, each as often as its kind allows, every step in the journal before the next (law 2)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from headwater.agents.agent import Agent
from headwater.agents.answer import words
from headwater.agents.book import Book
from headwater.agents.context import Ports
from headwater.agents.course import Ask, Course, End, Make, Send, Wait, following
from headwater.agents.fate import fate_of, passing
from headwater.agents.journal import Answered, Calling, Decided, Done, Journal, Outgoing, Started
from headwater.agents.raised import meant_for_us
from headwater.agents.review import fate_event
from headwater.agents.tool import Kind, Tool, sayable
from headwater.lineage.duration import duration
from headwater.lineage.errors import Retryable

T = TypeVar("T")

RETRY_S, LONGEST_RETRY_S = 0.05, 2.0
"""Pauses of a journal that does not answer."""
CALL_S, LONGEST_CALL_S = 0.1, 30.0
"""Pauses before a call is made again."""
STRANGE = 5
"""Errors that are no trouble of the network or the receiver, such as a defect of the tool: after so many a person looks."""
LONGEST_ANSWER = 100_000
"""Bytes of an answer that the journal keeps."""

_CAUTION: tuple[Kind, ...] = ("plain", "reconcilable", "idempotent")


class Unsaid(NamedTuple):
    """Why a call is not known to have happened."""

    state: Literal["failed", "unknown"]
    error: str
    attempts: int


async def persist(write: Callable[[], Awaitable[T]], ports: Ports) -> T:
    """Until it is committed: a journal that does not answer holds this key, it loses nothing."""
    pause = RETRY_S
    while True:
        try:
            return await write()
        except Retryable:
            await ports.sleep(pause * (0.5 + ports.random()))
            pause = min(2 * pause, LONGEST_RETRY_S)


class Performer:
    """Takes courses on to their end, or to a review that waits.

    agent, ports   whose decisions, and the clock and sleep to use
    journal, book  where each step is written, and what is known of it
    """

    def __init__(self, agent: Agent, ports: Ports, journal: Journal, book: Book) -> None:
        self._ports, self._journal, self._book = ports, journal, book
        self._tools = tools_of(agent)

    async def perform(self, course: Course) -> End | Wait:
        """Raises only what ends this owner."""
        while True:
            step = following(course)
            match step:
                case End() | Wait():
                    return step
                case Send(events):
                    await self._send(course.decided, events)
                case Make(call, since):
                    answered = await self._made(course, call, since)
                    await persist(partial(self._journal.append, [answered]), self._ports)
                    self._book.apply(answered)
                case Ask(call, answered):
                    assert course.decided is not None
                    await self._send(course.decided, (fate_event(course.decided, call, answered),))

    async def begin(self, decided: Decided) -> None:
        """Write a decision down, together with the events that it begins with: one commit for both. Raises as `perform` does."""
        first = following(Course(decided))
        if isinstance(first, Send):
            await self._send(decided, first.events, new=True)
            return
        await persist(lambda: self._journal.append([decided]), self._ports)
        self._book.apply(decided)

    async def _send(self, decided: Decided | None, events: tuple[Outgoing, ...], *, new: bool = False) -> None:
        assert decided is not None
        entry = Done(id=decided.id, effects=tuple(event.id for event in events), at=self._ports.clock())
        tokens = await persist(lambda: self._journal.perform(events, entry, decided if new else None), self._ports)
        if new:
            self._book.apply(decided)
        self._book.apply(entry.placed(tokens), self._ports.clock())

    async def _made(self, course: Course, call: Calling, since: int | None) -> Answered:
        assert course.decided is not None
        tool = self._tools.get(call.tool)
        kind = call.kind if tool is None else min(call.kind, tool.kind, key=_CAUTION.index)
        if kind == "plain" and since is not None:
            found: Any = Unsaid("unknown", "the process that made the call ended before the answer came", 1)
        elif tool is None:
            found = Unsaid("failed" if since is None else "unknown", f"the application declares no tool {call.tool} any more", 0)
        elif kind == "idempotent":
            found = await self._until_answered(tool, call)
        elif kind == "reconcilable":
            found = await self._reconciled(course, tool, call, since)
        else:
            await self._start(course, call)
            found = await self._until_answered(tool, call, once=True)
        blank = Answered(id=course.decided.id, effect=call.id, state="done", at=self._ports.clock())
        if isinstance(found, Unsaid):
            return msgspec.structs.replace(blank, state=found.state, error=found.error, attempts=found.attempts)
        return msgspec.structs.replace(blank, answer=_short(found[0]), attempts=found[1])

    async def _start(self, course: Course, call: Calling) -> int:
        assert course.decided is not None
        entry = Started(id=course.decided.id, effect=call.id, at=self._ports.clock())
        await persist(lambda: self._journal.append([entry]), self._ports)
        self._book.apply(entry)
        return entry.at

    async def _until_answered(self, tool: Tool, call: Calling, *, once: bool = False) -> tuple[Any, int] | Unsaid:
        """The answer and how many attempts it took. `once`: only what certainly did not happen is sent again."""
        attempts = strange = 0
        while True:
            attempts += 1
            try:
                return await tool.call(call.arguments, call.id), attempts
            except BaseException as error:
                if meant_for_us(error):
                    raise
                fate = fate_of(error)
                strange += not passing(error)
                if fate == "refused" or (fate == "unknown" and (once or strange >= STRANGE)):
                    return Unsaid("failed" if fate == "refused" else "unknown", told_of(tool, error), attempts)
            await self._pause(attempts)

    async def _reconciled(self, course: Course, tool: Tool, call: Calling, since: int | None) -> tuple[Any, int] | Unsaid:
        """Once: before it is sent again its lease is over, and its receiver says that it did not happen."""
        attempts = strange = 0
        lease, timeout = duration(tool.lease), duration(tool.timeout)
        while True:
            if since is not None:
                await self._wait_until(since + lease)
                happened = await self._asked(tool, call)
                if isinstance(happened, Unsaid) or happened is not None:
                    return happened if isinstance(happened, Unsaid) else (happened, attempts)
            since = await self._start(course, call)
            if self._ports.clock() + timeout > since + lease:
                continue  # it stood still since: another owner may be at it
            attempts += 1
            try:
                return await tool.call(call.arguments, call.id), attempts
            except BaseException as error:
                if meant_for_us(error):
                    raise
                fate = fate_of(error)
                strange += not passing(error)
                if fate == "refused" or strange >= STRANGE:
                    return Unsaid("failed" if fate == "refused" else "unknown", told_of(tool, error), attempts)
                if fate == "untouched":
                    since = None
            await self._pause(attempts)

    async def _asked(self, tool: Tool, call: Calling) -> Any | Unsaid | None:
        """The answer if the call happened, None if it did not. Asked until it is said."""
        assert tool.reconcile is not None
        attempts = strange = 0
        while True:
            attempts += 1
            try:
                async with asyncio.timeout(duration(tool.timeout) / 1_000_000):
                    return sayable(await tool.reconcile(call.id))
            except BaseException as error:
                if meant_for_us(error):
                    raise
                strange += not passing(error)
                if strange >= STRANGE:
                    return Unsaid("unknown", f"whether it happened cannot be asked: {told_of(tool, error)}", attempts)
            await self._pause(attempts)

    async def _pause(self, attempts: int) -> None:
        await self._ports.sleep(min(CALL_S * 2 ** min(attempts - 1, 20), LONGEST_CALL_S) * (0.5 + self._ports.random()))

    async def _wait_until(self, at: int) -> None:
        while (left := at - self._ports.clock()) > 0:
            await self._ports.sleep(left / 1_000_000)


def tools_of(agent: Agent) -> Mapping[str, Tool]:
    """Tools by name, of the agent and its fallbacks."""
    found: dict[str, Tool] = {}
    seen: set[str] = set()
    each: Agent | None = agent
    while each is not None and each.name not in seen:
        seen.add(each.name)
        found = {**{tool.name: tool for tool in each.tools}, **found}
        each = each.fallback
    return found


def told_of(tool: Tool, error: BaseException) -> str:
    """What a tool's error says, in words that can be written."""
    if isinstance(error, TimeoutError) and not error.args:
        return f"it took longer than {tool.timeout}"
    return f"{type(error).__name__}: {words(error)}"


def _short(answer: Any) -> Any:
    """An answer as the journal keeps it."""
    text = msgspec.json.encode(answer)
    if len(text) <= LONGEST_ANSWER:
        return answer
    return {"cut": True, "bytes": len(text), "beginning": text[:1000].decode(errors="replace")}
