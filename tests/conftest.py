"""What every test stands on: nothing outside this machine, a hypothesis profile, and one embedded broker (or HEADWATER_TEST_KAFKA's)."""

import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from inside import sitecustomize
from xdist.scheduler import LoadScopeScheduling

from headwater.flows.broker import Broker
from headwater.flows.kafka import Kafka
from headwater.flows.logs import to_stderr

settings.register_profile("headwater", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("headwater")
to_stderr()

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Compiled once, as where people work: else each process compiles all of headwater, and each of pytest's rewrites 600 files besides."""

INSIDE = Path(sitecustomize.__file__).parent
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(INSIDE), os.environ.get("PYTHONPATH"))))
_NOTED = Path(tempfile.mkdtemp(prefix="headwater-outside-")) / "tries"
os.environ[sitecustomize.NOTED] = str(_NOTED)


def outside() -> list[str]:
    """What tests and the processes they started reached for outside this machine, since it was last asked."""
    if not _NOTED.exists():
        return []
    tries = _NOTED.read_text().splitlines()
    _NOTED.unlink()
    return tries


@pytest.fixture(autouse=True)
def inside() -> Iterator[None]:
    """No test reaches outside, not even where the refusal is taken for an endpoint that does not answer."""
    outside()
    yield
    assert outside() == []


LAKES = ("tests/walk/", "tests/flows/lives/")
"""Folders whose files share a running application."""
APART = ("tests/walk/test_walk_cascade.py", "tests/walk/test_walk_design.py", "tests/flows/lives/test_mutants.py")
"""Files of theirs that do without, and take long."""
LONGEST = (
    "tests/crash/test_matrix.py", "tests/flows/test_demo.py", "tests/flows/test_bench.py", "tests/crash/test_effects_once.py", *APART,
    "tests/crash/test_kill_bridge.py", "tests/docs/test_notebooks.py", "tests/flows/test_bridging.py", *LAKES, "tests/docs/test_docs.py",
    "tests/crash/", "tests/flows/test_former.py", "tests/flows/test_replay_command.py", "tests/flows/test_migrate.py", "tests/flows/",
    "tests/enrichers/",
)  # fmt: skip
"""Files and folders by how long they take, the longest first."""
PAGES = ("lineage.md", "tutorial.md", "figures.md", "dead-letters.md", "gateways.md", "decisions.md", "operations.md", "README.md")
"""The longest of the documentation."""


class ByFile(LoadScopeScheduling):
    """A file's tests go to one process, which makes what they share once, and so do all that share a lake.

    Pages of the documentation share nothing, and go one by one.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.endswith("test_docs.py"):
            return nodeid
        return file if file in APART else next((lake for lake in LAKES if file.startswith(lake)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False  # our order, not the one by number of tests
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that no process has long to do when the others are done."""
    items.sort(key=lambda item: (_place(item.nodeid, LONGEST, str.startswith), _place(item.nodeid, PAGES, str.__contains__)))


def pytest_collection_finish() -> None:
    """From here on tests change modules and load them again within a second, which compiled ones cannot tell."""
    sys.dont_write_bytecode = True


def _place(nodeid: str, named: tuple[str, ...], match: Callable[[str, str], bool]) -> int:
    return next((n for n, name in enumerate(named) if match(nodeid, name)), len(named))


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A broker for the whole session; tests use topics of their own."""
    address = os.environ.get("HEADWATER_TEST_KAFKA")
    if address:
        yield Kafka({"bootstrap.servers": address})
        return
    with Broker() as broker:
        yield broker.kafka


@pytest.fixture
def name() -> str:
    """A name no other test uses, for topics and groups."""
    return f"t-{uuid.uuid4().hex[:12]}"
