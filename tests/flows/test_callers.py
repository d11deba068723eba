"""Who may call the HTTP door."""

import pytest
from starlette.datastructures import Headers

from headwater.flows.callers import Callers
from headwater.flows.settings import Settings
from headwater.lineage.errors import Forbidden

PAGE = {"host": "127.0.0.1:8470"}
EVIL = "http://evil.example"
OPEN = Settings(http_host="0.0.0.0")
PROXIED = Settings(http_names="lake.example.org")


@pytest.mark.parametrize(
    ("settings", "method", "headers", "fits"),
    [
        (Settings(), "POST", PAGE, True),
        (Settings(), "POST", {**PAGE, "origin": "http://127.0.0.1:8470"}, True),
        (Settings(), "POST", {**PAGE, "origin": "http://127.0.0.1:3000"}, False),
        (Settings(), "POST", {**PAGE, "origin": EVIL}, False),
        (Settings(), "POST", {**PAGE, "origin": "null"}, False),
        (Settings(), "POST", {**PAGE, "sec-fetch-site": "cross-site"}, False),
        (Settings(), "GET", {**PAGE, "sec-fetch-site": "cross-site"}, True),  # a link that is followed
        (Settings(), "GET", {"host": "evil.example"}, False),
        (Settings(), "GET", {"host": "localhost:1"}, True),
        (Settings(), "GET", {}, False),
        (OPEN, "GET", {"host": "lake.example.org"}, True),
        (OPEN, "POST", {"host": "lake.example.org", "origin": "https://lake.example.org"}, True),
        (OPEN, "POST", {"host": "lake.example.org", "origin": EVIL}, False),
        (PROXIED, "POST", {"host": "lake.example.org"}, True),
        (PROXIED, "POST", {**PAGE, "origin": "https://lake.example.org"}, True),
        (PROXIED, "POST", {**PAGE, "origin": EVIL}, False),
    ],
)
def test_programs_and_own_pages_may_call(settings, method, headers, fits):
    """No other site's page may change anything in somebody's name; behind loopback none may read under a name of its own either."""
    guard = Callers(lambda *_: None, settings)
    if fits:
        guard.check(Headers(headers), method)
    else:
        with pytest.raises(Forbidden):
            guard.check(Headers(headers), method)
