"""Who may call `/mcp`, and what `headwater mcp` says when there is nothing to hand on to."""

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from mcp.server.transport_security import TransportSecurityMiddleware

from headwater.flows.mcp import Door, allowed
from headwater.flows.settings import Settings


@pytest.mark.parametrize(
    ("settings", "host", "fits"),
    [
        (Settings(), "127.0.0.1:8470", True),
        (Settings(), "localhost", True),
        (Settings(), "[::1]:8470", True),
        (Settings(), "evil.example:8470", False),
        (Settings(), "127.0.0.1.evil.example", False),
        (Settings(), "", False),
        (Settings(http_host="10.0.0.7"), "10.0.0.7:8470", True),
        (Settings(http_host="0.0.0.0"), "0.0.0.0:8470", False),
        (Settings(http_host="0.0.0.0"), "lake.example.org", False),
        (Settings(http_host="0.0.0.0", http_names="lake.example.org, fd00::7"), "lake.example.org:443", True),
        (Settings(http_host="0.0.0.0", http_names="lake.example.org, fd00::7"), "[fd00::7]:8470", True),
    ],
)
def test_only_names_that_are_ours_may_be_called(settings, host, fits):
    """Loopback, the address it listens on, and what the settings name; a page of another name reaches nothing."""
    guard = TransportSecurityMiddleware(allowed(settings))
    assert guard._validate_host(host) is fits
    assert guard._validate_origin(f"http://{host}") is fits


def test_without_a_headwater_the_command_says_so(tmp_path):
    """`headwater mcp` with nothing running: exit 75, one sentence that says what to do, no trace, nothing on standard output."""
    for more in (["--home", str(tmp_path)], ["--url", "http://127.0.0.1:9"]):
        ran = subprocess.run([sys.executable, "-m", "headwater", "mcp", *more], input=b"", capture_output=True, timeout=500)
        assert (ran.returncode, ran.stdout) == (75, b"")
        assert ran.stderr.decode().startswith("headwater: ") and ran.stderr.count(b"\n") == 1, ran.stderr.decode()
        assert b"--home" in " ".join(more).encode() or b"is headwater running there?" in ran.stderr


class Library:
    """What the door makes: an application that counts its requests, beside a manager that tells whether it runs."""

    def __init__(self, failing=0):
        self.failing, self.made, self.asked, self.said = failing, 0, 0, []

    def make(self):
        self.made += 1
        if self.made <= self.failing:
            raise OSError("not there yet")
        return self.answer, self

    async def answer(self, scope, receive, send):
        assert self.said == ["enter"]
        self.asked += 1

    @asynccontextmanager
    async def run(self):
        self.said.append("enter")
        yield
        self.said.append("leave")


def test_the_door_is_made_once_by_who_comes_first_and_left_at_the_end():
    """However many ask at once, and though one of them goes away, it is made once; its manager runs until the door is closed."""
    library = Library()

    async def life():
        door = Door(library.make)
        first = asyncio.create_task(door({}, None, None))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(*(door({}, None, None) for _ in range(5)))
        await door.close()

    asyncio.run(life())
    assert (library.made, library.asked, library.said) == (1, 5, ["enter", "leave"])


def test_a_door_that_could_not_be_made_is_made_again():
    """Who asks is told why it failed; the next request tries anew. One that nobody asks is never made, and closes all the same."""
    library, unasked = Library(failing=1), Library()

    async def life():
        door = Door(library.make)
        with pytest.raises(OSError, match="not there yet"):
            await door({}, None, None)
        await door({}, None, None)
        await door.close()
        await Door(unasked.make).close()

    asyncio.run(life())
    assert (library.made, library.asked, unasked.made) == (2, 1, 0)


def test_a_start_loads_no_more_than_it_runs():
    """All that `headwater up` imports leaves alone what only `/mcp`, deciding and HTTP need: it takes longer than all the rest."""
    unused = {"mcp", "mcp_types", "sentence_transformers", "pydantic_ai", "fastapi", "uvicorn"}
    code = f"import sys, headwater.flows.up_command; assert not {unused!r} & set(sys.modules), {unused!r} & set(sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
