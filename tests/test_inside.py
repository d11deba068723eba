"""The suite's own guard: no model is ever asked for real, whatever asks."""

import asyncio
import importlib
import os
import socket
import subprocess
import sys

import pytest
from conftest import outside
from inside.sitecustomize import inside
from pydantic_ai import Agent
from pydantic_ai.models import infer_model


def test_a_hosted_model_is_not_asked(monkeypatch):
    """A run of a hosted model ends before its provider's address is even looked up, and the try is noted."""
    monkeypatch.setenv("OPENAI_API_KEY", "a key that would cost money")
    with pytest.raises(Exception, match=r"outside this machine|onnection"):
        asyncio.run(Agent(infer_model("openai:gpt-5")).run("What is the weather?"))
    tries = outside()
    assert tries and all(told.startswith("api.openai.com: ") for told in tries)


def test_processes_that_tests_start_are_kept_too():
    """A child that connects to an address outside is refused like its parent."""
    code = "import socket; socket.create_connection(('192.0.2.1', 443), timeout=5)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), timeout=500)
    assert ran.returncode == 1 and "Outside: 192.0.2.1" in ran.stderr
    assert len(outside()) == 1


def test_nothing_loads_pandas():
    """Here and in processes that tests start there is no pandas, and pyarrow makes arrays without it."""
    code = "import pyarrow, sys; assert pyarrow.array(['a', None]).null_count == 1; assert 'pandas' not in sys.modules"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), timeout=500)
    assert ran.returncode == 0, ran.stderr
    with pytest.raises(ModuleNotFoundError, match="tests run without it"):
        importlib.import_module("pandas")


def test_the_guard_speaks_before_the_network_does():
    """Addresses and names outside are refused by us at once, never by a time-out."""
    with socket.socket() as reaching, pytest.raises(RuntimeError, match="outside this machine"):
        reaching.connect_ex(("192.0.2.1", 443))
    with pytest.raises(RuntimeError, match="outside this machine"):
        socket.getaddrinfo("api.anthropic.com", 443)
    assert len(outside()) == 2


@pytest.mark.parametrize(
    ("host", "is_inside"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", True), (None, True), (b"localhost", True),
        ("10.0.0.1", False), ("api.openai.com", False), ("localhost.evil.org", False), ("169.254.169.254", False), ("fe80::1%eth0", False),
    ],
)  # fmt: skip
def test_loopback_alone_is_inside(host, is_inside):
    """Names that only look like this machine, private networks and metadata services are outside."""
    assert inside(host) is is_inside
