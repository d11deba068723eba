"""Room: bounded over all agents, and no agent shuts out another."""

import asyncio
import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.room import Room

NAMES = ("a", "b", "c")


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from([*NAMES, "other"]), st.sampled_from(["in", "out", "cancel"])), max_size=60))
def test_bounded_and_nobody_is_shut_out(places, moves):
    """Never more than the places; an agent that waits has its own share in use; who leaves or is cancelled lets the next in; at the end
    every place is free again."""

    async def run():
        room = Room(places, NAMES)
        bound = max(places, len(NAMES))
        own = max(1, bound // (2 * len(NAMES)))
        inside = {name: [] for name in [*NAMES, "other"]}
        tasks = {name: [] for name in [*NAMES, "other"]}

        async def visit(name):
            leave = asyncio.Event()
            async with room.place(name):
                inside[name].append(leave)
                try:
                    await leave.wait()
                finally:
                    inside[name].remove(leave)

        async def settle():
            for _ in range(4):
                await asyncio.sleep(0)

        for name, move in moves:
            if move == "in":
                tasks[name].append(asyncio.create_task(visit(name)))
            elif move == "out" and inside[name]:
                inside[name][0].set()
            elif move == "cancel" and tasks[name]:
                tasks[name].pop().cancel()
            await settle()
            assert sum(map(len, inside.values())) == sum(room.used.values()) <= bound
            assert all(len(inside[name]) >= own for name in NAMES if room.waits(name))
            free = bound - sum(len(inside[n]) for n in inside) - sum(max(0, own - len(inside[n])) for n in NAMES)
            assert free <= 0 or not any(map(room.waits, inside)), "somebody waits for nothing"
        for task in [task for each in tasks.values() for task in each]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert not any(room.used.values()) and not any(map(room.waits, inside))

    asyncio.run(run())


def test_let_in_and_cancelled_at_once_gives_the_place_on():
    """A waiter that is cancelled in the moment it is let in does not keep the place."""

    async def run():
        room = Room(1)
        async with room.place("a"):
            waiter = asyncio.create_task(room._enter("a"))
            await asyncio.sleep(0)
        waiter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiter
        async with asyncio.timeout(60), room.place("b"):
            assert room.used["b"] == 1

    asyncio.run(run())
