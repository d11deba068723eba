"""Who may call `/mcp`, and what `headwater mcp` says when there is nothing to hand on to."""

import subprocess
import sys

import pytest
from mcp.server.transport_security import TransportSecurityMiddleware

from headwater.flows.mcp import allowed
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
        ran = subprocess.run([sys.executable, "-m", "headwater", "mcp", *more], input=b"", capture_output=True, timeout=120)
        assert (ran.returncode, ran.stdout) == (75, b"")
        assert ran.stderr.decode().startswith("headwater: ") and ran.stderr.count(b"\n") == 1, ran.stderr.decode()
        assert b"--home" in " ".join(more).encode() or b"is headwater running there?" in ran.stderr
