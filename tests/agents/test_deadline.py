"""Deadlines: as asyncio.timeout, however many there are."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.agents.deadline import Deadlines

TICK = 0.01


async def _told(limit, length, cancel_at, within):
    """How a block of `length` ends: done, late or cancelled."""

    async def block():
        with within(limit):
            await asyncio.sleep(length)
        return "done"

    task = asyncio.create_task(block())
    if cancel_at is not None:
        asyncio.get_running_loop().call_later(cancel_at, task.cancel)
    try:
        return await task
    except TimeoutError:
        return "late"
    except asyncio.CancelledError:
        return "cancelled"


class _Clock(asyncio.SelectorEventLoop):
    """A loop whose time jumps to what is due next, so that nothing is waited for."""

    def __init__(self):
        super().__init__()
        self._now = 0.0

    def time(self):
        return self._now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self._now = max(self._now, self._scheduled[0]._when)
        super()._run_once()


def _run(coroutine):
    loop = _Clock()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


BLOCKS = st.lists(
    st.tuples(st.sampled_from([2, 4]), st.sampled_from([0, 1, 3, 5, 9]), st.sampled_from([None, None, 1.5, 3.5, 4.5])), max_size=30
)


@settings(max_examples=100, deadline=None)
@given(BLOCKS)
def test_ends_as_under_asyncio_timeout(blocks):
    """Each of many blocks side by side ends as its times say: done in time, late, or cancelled by somebody else first."""

    async def all_of_them():
        deadlines = Deadlines()
        return await asyncio.gather(*[_told(limit, length, cancel, deadlines.within) for limit, length, cancel in blocks])

    def expected(limit, length, cancel):
        first = min(limit, length, cancel if cancel is not None else 99)
        return "done" if length == first else "late" if limit == first else "cancelled"

    assert _run(all_of_them()) == [expected(*block) for block in blocks]


def test_a_loop_of_its_own_each_time():
    """Deadlines that were used on one loop hold on the next one."""
    deadlines = Deadlines()
    for _ in range(2):
        assert _run(_told(1, 5, None, deadlines.within)) == "late"


@pytest.mark.parametrize("many", [1, 1000])
def test_one_timer_for_all(many):
    """However many blocks run, one timer waits for them; and nothing is kept of those that ended."""

    async def run():
        deadlines, loop = Deadlines(), asyncio.get_running_loop()
        hold = asyncio.Event()

        async def block():
            with deadlines.within(60):
                await hold.wait()

        tasks = [asyncio.create_task(block()) for _ in range(many)]
        await asyncio.sleep(0)
        timers = len(loop._scheduled)
        hold.set()
        await asyncio.gather(*tasks)
        return timers, len(deadlines._queues[60]._waiting)

    assert _run(run()) == (1, 0)
