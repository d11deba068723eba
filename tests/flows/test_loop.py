import asyncio
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from headwater.agents.agent import Agent
from headwater.agents.context import Ports
from headwater.agents.decide import decide
from headwater.agents.testing import MemorySearch, ScriptedModel, activation
from headwater.flows.loop import Loop


@pytest.fixture
def watched():
    """A loop whose looks the test takes, at times that it says."""
    now, told = [0.0], []
    running = Loop(look_s=1000.0, tell=told.append, clock=lambda: now[0])

    def look(at):
        now[0] = at
        running.look()

    yield running.loop, look, told
    running.stop()


def begin(loop, coroutine, name):
    """The coroutine as a task of that name, when it has begun."""
    begun = threading.Event()

    async def task():
        asyncio.current_task().set_name(name)
        begun.set()
        return await coroutine

    future = asyncio.run_coroutine_threadsafe(task(), loop)
    assert begun.wait(60)
    return future


async def blocks(until):
    assert until.wait(60)


def test_who_holds_the_loop_is_told_once(watched):
    """An agent that does not await is told by name and line after a second, and not again for a minute."""
    loop, look, told = watched
    until = threading.Event()
    future = begin(loop, blocks(until), "slow")
    for at in (0.0, 0.5, 0.9):
        look(at)
    assert not told
    for at in (1.0, 1.25, 59.0):
        look(at)
    assert [(held.name, held.seconds) for held in told] == [("slow", 1.0)]
    assert "test_loop.py" in told[0].place and told[0].place.endswith("in blocks")
    look(61.0)
    assert [held.seconds for held in told] == [1.0, 61.0]
    until.set()
    future.result(60)


def test_who_awaits_holds_nobody(watched):
    """However long an agent takes, and however late the looks are, while it awaits nothing is told."""
    loop, look, told = watched

    async def waits():
        await asyncio.get_running_loop().run_in_executor(None, until.wait)

    until = threading.Event()
    future = begin(loop, waits(), "patient")
    for at in range(0, 100, 5):
        look(float(at))
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)
    until.set()
    future.result(60)
    assert not told


def test_many_short_tasks_are_no_one_holding(watched):
    """A sign that is late because many tasks come before it is not told: none of them runs for long."""
    loop, look, told = watched
    first, second, begun = threading.Event(), threading.Event(), threading.Event()

    async def follows():
        begun.set()
        await blocks(second)

    one = begin(loop, blocks(first), "one")
    two = asyncio.run_coroutine_threadsafe(follows(), loop)
    look(0.0)
    look(0.9)
    first.set()
    assert begun.wait(60)
    look(1.2)
    second.set()
    one.result(60)
    two.result(60)
    assert not told


def test_a_task_that_ends_the_process_ends_itself():
    """`sys.exit` in a task that an agent began fails that attempt; the loop and all other agents go on."""

    async def leaves():
        sys.exit(3)

    async def function(activation, context):
        await asyncio.gather(leaves())

    rule = SimpleNamespace(name="cancellations")
    ports = Ports(MemorySearch(), ScriptedModel("x"), lambda: time.time_ns() // 1000, "B")
    running = Loop()
    try:
        attempt = decide(Agent("quits", function, (rule,), attempts=1), activation(at=1), ports)
        decided = asyncio.run_coroutine_threadsafe(attempt, running.loop).result(60)
        assert decided.state == "waiting" and "SystemExit: 3" in decided.error
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "still here"), running.loop).result(60) == "still here"
    finally:
        running.stop()
