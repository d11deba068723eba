"""Recorded decisions as tests. pytest collects every `*.cases.jsonl`: one test for each case, which decides it again and compares.

    headwater replay --all --since 24h --export tests/yesterday.cases.jsonl
    pytest -o headwater_app=app.py tests/yesterday.cases.jsonl

The agents of the application decide, with the model that HEADWATER_MODEL names, on exactly what was seen then. Nothing is done outside.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from headwater.agents.case import Case
    from headwater.agents.replay import Replayed
    from headwater.flows.replay_command import Again

SUFFIX = ".cases.jsonl"
_again = pytest.StashKey["Again"]()


class Changed(Exception):
    """A case that is decided another way now."""

    def __init__(self, found: "Replayed") -> None:
        then, now = found.then, found.now
        context = f"differs first in {found.difference}" if found.difference else "is the same"
        super().__init__(
            f"{found.agent}@{found.version_now} answers {now.summary or now.state!r} ({now.state}, {now.confidence:.2f}), "
            f"and answered {then.summary or then.state!r} ({then.state}, {then.confidence:.2f}) as @{found.version_then}\n"
            f"what it saw {context}" + (f"\nit says: {now.error}" if now.error else "")
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("headwater_app", "whose agents decide *.cases.jsonl again: FILE.py or MODULE:NAME; else HEADWATER_APP, else app.py")


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> "CaseFile | None":
    return CaseFile.from_parent(parent, path=file_path) if file_path.name.endswith(SUFFIX) else None


class CaseFile(pytest.File):
    """A file of cases."""

    def collect(self) -> Iterator["CaseItem"]:
        from headwater.flows.cases import read_cases

        with self.path.open("rb") as lines:
            for case in read_cases(lines, self.path.name):
                yield CaseItem.from_parent(self, name=f"{case.agent}/{case.activation.key}/{case.id[:8]}", case=case)


class CaseItem(pytest.Item):
    """A case: the same choice, or it fails and says what differs."""

    def __init__(self, *, case: "Case", **more: Any) -> None:
        super().__init__(**more)
        self.case = case

    def runtest(self) -> None:
        found = _decider(self.config).decide(self.case)
        if not found.agrees:
            raise Changed(found)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return str(excinfo.value) if isinstance(excinfo.value, Changed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _decider(config: pytest.Config) -> "Again":
    if _again not in config.stash:
        import headwater.flows.settings as settings
        from headwater.flows.replay_command import Again, Wish
        from headwater.flows.target import application

        found = settings.load({})
        named = str(config.getini("headwater_app") or "") or None
        config.stash[_again] = Again(application(found, named), found, Wish(many=True))
    return config.stash[_again]
