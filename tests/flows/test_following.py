"""The files of an application are followed: a file by itself, modules it imports, a package named MODULE:NAME."""

import gc
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import structlog

from headwater.agents.detect import Detector
from headwater.flows.app import load
from headwater.flows.following import RuleWatch
from headwater.flows.reload import ROOT
from headwater.flows.rulebook import Rulebook

FILE = """
import msgspec, polars as pl
from headwater import App, Threshold, Topic
class Ping(msgspec.Struct):
    ms: float
pings = Topic("pings", Ping)
app = App("pinged", triggers=[Threshold("slow", of=pings, value=pl.col("ms"), opens_at={level}, closes_at=1)])
"""
MAIN = """
from __future__ import annotations
import polars as pl
from headwater import App, Threshold
{imports}
app = App("pinged", triggers=[Threshold("slow", of=pings, value=pl.col("ms"), opens_at=LEVEL, closes_at=1)])
"""
TOPICS = """
from __future__ import annotations
import msgspec
from typing import Literal
from headwater import Topic
class Ping(msgspec.Struct):
    ms: float
    kind: Literal["a", "b"]
pings = Topic("pings", Ping)
"""


class Follower:
    """A watch that looks when it is told to, and the book that it offers rules to."""

    def __init__(self, target: str) -> None:
        self.app = load(target)
        self.book = Rulebook({"pings": Detector(self.app.triggers[0].of, self.app.triggers)})
        self.watch = RuleWatch(target, self.book.take)

    def look(self) -> list[Any]:
        with structlog.testing.capture_logs() as said:
            self.watch.look()
            self.watch.look()  # it is loaded once it has not changed for a look
        return [one.get("rules") or one["error"] for one in said]

    @property
    def level(self) -> float:
        rule: Any = self.book.at(self.book.revision)["pings"].rules[0]
        return float(rule.opens_at)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """What a test imports goes with it."""
    modules, path = dict(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.path[:] = path


def test_the_file_is_followed(tmp_path: Path) -> None:
    """A saved file changes the rules once; one that cannot be loaded, or needs more, changes nothing and says why and where."""
    path = tmp_path / "pinged.py"
    path.write_text(FILE.format(level=5))
    follower = Follower(str(path))
    assert (follower.look(), follower.book.revision) == ([], 0)
    path.write_text(FILE.format(level=7))
    assert (follower.look(), follower.look(), follower.level) == ([["slow"]], [], 7)
    for wrong, says in (
        ("\n1 +", "pinged.py, line 2: SyntaxError"),
        (FILE.format(level=0), "pinged.py, line 7: "),
        (FILE.format(level="1 / 0"), "pinged.py, line 7: ZeroDivisionError"),
        (FILE.format(level=8).replace("ms: float", "ms: int"), "the model or the key of topic pings"),
        (FILE.format(level=8).replace("app =", "other ="), "has no App called 'app'"),
    ):
        path.write_text(wrong)
        (said,) = follower.look()
        assert says in said and follower.book.revision == 1
    path.unlink()
    assert "No such file" in follower.look()[0]
    path.write_text(FILE.format(level=6))
    assert (follower.look(), follower.level) == ([["slow"]], 6)


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    """It is loaded when it has stayed the same from one look to the next."""
    path = tmp_path / "pinged.py"
    path.write_text(FILE.format(level=5))
    follower = Follower(str(path))
    follower.look()
    for end in range(40, 120, 10):
        path.write_text(FILE.format(level=7)[:end])
        with structlog.testing.capture_logs() as said:
            follower.watch.look()
        assert not said and follower.book.revision == 0
    path.write_text(FILE.format(level=7))
    assert (follower.look(), follower.level) == ([["slow"]], 7)


def a_package(tmp_path: Path, name: str) -> tuple[str, Path]:
    """The application in a package: by relative imports, by absolute ones, and the levels in a package below it."""
    package = tmp_path / name
    (package / "more").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "topics.py").write_text(TOPICS)
    (package / "more" / "__init__.py").write_text("")
    (package / "more" / "levels.py").write_text("LEVEL = 5\n")
    (package / "service.py").write_text(MAIN.format(imports=f"from .topics import pings\nimport {name}.more.levels as l\nLEVEL = l.LEVEL"))
    return f"{name}.service:app", package / "more" / "levels.py"


def a_file(tmp_path: Path, name: str) -> tuple[str, Path]:
    """The application in a file that imports others beside it."""
    (tmp_path / "pings_of_file.py").write_text(TOPICS)
    (tmp_path / "levels_of_file.py").write_text("LEVEL = 5\n")
    (tmp_path / f"{name}.py").write_text(
        MAIN.format(imports="import levels_of_file\nfrom pings_of_file import pings\nLEVEL = levels_of_file.LEVEL")
    )
    return str(tmp_path / f"{name}.py"), tmp_path / "levels_of_file.py"


@pytest.mark.parametrize("make", [a_package, a_file])
def test_imported_modules_are_followed(tmp_path: Path, make: Any) -> None:
    """A change in one of them is taken over; running modules stay the very same, no copy is left; an error names the file and the line."""
    target, levels = make(tmp_path, f"walked_{make.__name__}")
    follower = Follower(target)
    running: dict[str, ModuleType] = dict(sys.modules)
    meta_path = list(sys.meta_path)
    for level in (6, 7, 8):
        levels.write_text(f"LEVEL = {level}\n")
        assert (follower.look(), follower.level) == ([["slow"]], level)
    levels.write_text("LEVEL = 9\nLEVEL =\n")
    assert "line 2: SyntaxError" in follower.look()[0]
    levels.write_text("import math\nLEVEL = math.inf - here\n")
    (said,) = follower.look()
    assert f"{levels}, line 2: NameError: name 'here' is not defined" in said and follower.level == 8
    levels.write_text("LEVEL = 9\n")
    assert (follower.look(), follower.level, follower.look()) == ([["slow"]], 9, [])
    assert {name: id(module) for name, module in sys.modules.items()} == {name: id(module) for name, module in running.items()}
    assert (sys.meta_path, [name for name in sys.modules if name.startswith(ROOT)]) == (meta_path, [])
    assert follower.app.triggers[0].opens_at == 5


def test_a_module_imported_for_the_first_time_is_followed_too(tmp_path: Path) -> None:
    """From the load on that imports it; what is not imported any more is not followed any more."""
    target, levels = a_file(tmp_path, "walked_on")
    follower = Follower(target)
    follower.look()
    other = tmp_path / "other_levels.py"
    other.write_text("LEVEL = 20\n")
    Path(target).write_text(MAIN.format(imports="from other_levels import LEVEL\nfrom pings_of_file import pings"))
    assert (follower.look(), follower.level) == ([["slow"]], 20)
    other.write_text("LEVEL = 30\n")
    assert (follower.look(), follower.level) == ([["slow"]], 30)
    levels.write_text("LEVEL =\n")
    assert follower.look() == []


@pytest.mark.parametrize("make", [a_package, a_file])
def test_no_save_leaves_a_copy(tmp_path: Path, make: Any) -> None:
    """Of models, and so of modules, there are those of the few revisions that are remembered, however often one saves."""
    target, levels = make(tmp_path, f"walked_often_{make.__name__}")
    follower = Follower(target)
    alive = []
    for n in range(7):
        levels.write_text(f"LEVEL = {5 + n % 3}\n" + "#" * n)
        follower.look()
        gc.collect()
        alive.append(sum(isinstance(each, type) and str(each.__module__).startswith(ROOT) for each in gc.get_objects()))
    assert follower.book.revision >= 6 and alive[-1] == alive[-2] <= 6


def test_only_the_users_own_modules_are_loaded_anew(tmp_path: Path) -> None:
    """What is installed below the application's folder, and what headwater is, runs on as it is: a model of it is the same class."""
    library = tmp_path / ".venv" / "lib" / "site-packages"
    library.mkdir(parents=True)
    (library / "installed_lib.py").write_text("loads = []\n")
    sys.path.append(str(library))
    path = tmp_path / "pinged.py"
    head = "import installed_lib, headwater\ninstalled_lib.loads.append(headwater)\n"
    path.write_text(head + FILE.format(level=5))
    follower = Follower(str(path))
    follower.look()
    path.write_text(head + FILE.format(level=7))
    assert (follower.look(), follower.level) == ([["slow"]], 7)
    assert len(set(map(id, sys.modules["installed_lib"].loads))) == 1 < len(sys.modules["installed_lib"].loads)
