"""Keeps the suite to this machine: no Python process of it connects to, or asks for the address of, anything but loopback.

Python imports a module of this name at its start from the paths of PYTHONPATH, which `tests/conftest.py` extends by this folder: so
processes that tests start are kept as well. A try is refused, and noted in the file that HEADWATER_TEST_OUTSIDE names, as whoever asked
may take the refusal for an endpoint that does not answer. HEADWATER_TEST_KAFKA and HEADWATER_TEST_QDRANT name servers that are asked.

Nor is there pandas: headwater does not need it, an installation without the demo's data has none, and pyarrow loads it on its first array
where there is one, half a second in each process.
"""

import ipaddress
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NOTED = "HEADWATER_TEST_OUTSIDE"
_NAMES = frozenset(("localhost", "localhost.localdomain", "ip6-localhost", ""))


class Outside(RuntimeError):
    """A test reaches for something that is not on this machine."""


def inside(host: Any) -> bool:
    """Whether a host is this machine, or a server that the tests were given."""
    if host is None:
        return True
    name = _text(host)
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
        return address.is_loopback or address.is_unspecified or name in _given()
    except ValueError:
        return name.lower().rstrip(".") in _NAMES or name in _given()


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, (bytes, bytearray)) else str(host)


def _given() -> set[str]:
    kafka = [address.rpartition(":")[0] for address in os.environ.get("HEADWATER_TEST_KAFKA", "").split(",")]
    qdrant = os.environ.get("HEADWATER_TEST_QDRANT", "").partition("//")[2].partition("/")[0].partition(":")[0]
    return {host for host in (*kafka, qdrant) if host}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path in the file system is inside
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not inside(host):
        told = f"{_text(host)}: tests reach nothing outside this machine; answer the request with a double (headwater.testing)"
        if noted := os.environ.get(NOTED):
            with open(noted, "a", encoding="utf-8") as file:
                file.write(f"{told}\n")
        raise Outside(told)


class _NoPandas(MetaPathFinder, Loader):
    """Finds pandas before anyone else does, and refuses to load it; who only asks whether it is there (torch does) is not disturbed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name == "pandas" else None

    def exec_module(self, module: ModuleType) -> None:
        raise ModuleNotFoundError("No module named 'pandas': tests run without it, as headwater does", name=module.__name__)


sys.addaudithook(_watch)
sys.meta_path.insert(0, _NoPandas())
