"""Every command and every program that the documentation shows, executed as it stands.

Each page is one bash session in an empty folder. What a comment before a block may say:

<!-- file: NAME -->                    the block is a file; later commands of the page use it
<!-- in a terminal of its own -->      the block runs on, beside what follows
<!-- not run here: REASON -->          the block is not run, for one of the reasons below
<!-- Ctrl-C -->                        (without a block) what runs in the other terminal is stopped and must end with exit 0

`console` blocks show commands after `$ ` and their output, in which `…` stands for anything.
"""

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
RUN = ("sh", "console", "python")
INERT = ("text", "mermaid", "json")
NOT_RUN = {
    "needs docker": 1,
    "needs Redpanda and Qdrant servers": 2,
    "needs a hosted model": 1,
    "takes minutes": 6,
    "another test runs it": 1,
}
"""Why a block may stay unrun, and how many do: a new one has to be counted here."""

_BLOCK = re.compile(
    r"^(?:<!-- (?!Ctrl-C)(?P<mark>[^\n]+?) -->\n+)?```(?P<language>\w+)\n(?P<text>.*?)^```$|^<!-- (?P<alone>Ctrl-C) -->$", re.M | re.S
)
_LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


class Block(NamedTuple):
    """A fenced block (or the bare mark Ctrl-C): where it stands, what the comment before it says, its language and text."""

    where: str
    mark: str
    language: str
    text: str

    @property
    def reason(self) -> str | None:
        return self.mark.removeprefix("not run here: ") if self.mark.startswith("not run here: ") else None

    @property
    def file(self) -> str | None:
        return self.mark.removeprefix("file: ") if self.mark.startswith("file: ") else None

    @property
    def commands(self) -> str:
        """What bash runs: of a console block the lines after `$ `."""
        if self.language != "console":
            return self.text
        return "".join(f"{line[2:]}\n" for line in self.text.splitlines() if line.startswith("$ "))

    @property
    def output(self) -> str:
        return "\n".join(line for line in self.text.splitlines() if not line.startswith("$ "))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        where = f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}"
        found.append(Block(where, match["alone"] or match["mark"] or "", match["language"] or "", match["text"] or ""))
    return found


PRELUDE = """
set -euo pipefail
set -m
start=$PWD; log=$start/.log; mkdir -p $log
trap 'code=$?; [ $code = 0 ] || tail -n 40 $log/* >&2; kill -KILL -- $(jobs -p | sed s/^/-/) 2>/dev/null || true; exit $code' EXIT
runs() {
  for file in $(find $start -path "*/.headwater/run.json" 2>/dev/null); do
    kill -0 $(sed 's/.*"pid": \\([0-9]*\\).*/\\1/' $file) 2>/dev/null && return
  done
  return 1
}
"""
BESIDE = """
( {commands} ) > $log/{n} 2>&1 &
other=$!
until runs; do kill -0 $other || {{ echo "{where}: it ended before it ran" >&2; exit 1; }}; sleep 0.1; done
"""
CTRL_C = 'kill -INT -- -$other; wait $other || { echo "exit $? after Ctrl-C" >&2; exit 1; }\n'


def script(page: Path) -> str:
    """The page as a bash script."""
    lines = [PRELUDE]
    for n, block in enumerate(blocks(page)):
        lines.append(f"echo '# {block.where}' after $SECONDS s >&2\n")
        if block.mark == "Ctrl-C":
            lines.append(CTRL_C)
        elif block.file:
            lines.append(f"cat > {shlex.quote(block.file)} <<'END OF FILE'\n{block.text}END OF FILE\n")
        elif block.reason or block.language in INERT:
            continue
        elif block.language == "python":
            lines.append(f"cat > $log/{n}.py <<'END OF FILE'\n{block.text}END OF FILE\n")
            lines.append(f"PYTHONPATH=.${{PYTHONPATH:+:$PYTHONPATH}} python $log/{n}.py > $log/{n} 2>&1\n")
        elif block.mark == "in a terminal of its own":
            lines.append(BESIDE.format(commands=block.commands, n=n, where=block.where))
        else:
            lines.append(f"{{\n{block.commands}}} > $log/{n} 2>&1\n")
    return "".join(lines)


def matches(expected: str, printed: str) -> bool:
    """Whether the output is as shown: `…` stands for anything, runs of blanks for each other."""
    wanted = [" ".join(part.split()) for part in expected.split("…")]
    return re.fullmatch(".*?".join(map(re.escape, wanted)), " ".join(printed.split()), re.S) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_runs_as_shown(page: Path, tmp_path: Path) -> None:
    """A page's blocks, run in order in an empty folder, succeed and print what the page shows."""
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    given = {**clean, "PATH": path, "HEADWATER_HTTP__PORT": "0", "COLUMNS": "120", "HF_HUB_OFFLINE": "1", "TERM": "dumb"}
    ran = subprocess.run(["bash", "-c", script(page)], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, f"{ran.stderr}\n{ran.stdout}"
    for n, block in enumerate(blocks(page)):
        if block.language == "console" and not block.reason:
            printed = (tmp_path / ".log" / str(n)).read_text()
            assert matches(block.output, printed), f"{block.where} shows:\n{block.output}\nbut it printed:\n{printed}"


def test_what_is_not_run_is_counted_and_has_a_reason() -> None:
    """No block is left out for a reason not on the list, nor more blocks than it says; no language is passed over unseen."""
    everything = [block for page in PAGES for block in blocks(page)]
    assert Counter(block.reason for block in everything if block.reason) == NOT_RUN
    assert {block.language for block in everything} <= {*RUN, *INERT, ""}
    fences = sum(len(re.findall(r"^```\w", page.read_text(encoding="utf-8"), re.M)) for page in PAGES)
    assert fences == sum(block.mark != "Ctrl-C" for block in everything)


def test_every_file_shown_is_used() -> None:
    """A file that a page shows is named by a later command of the page, so that it cannot rot unseen."""
    for page in PAGES:
        found = blocks(page)
        for n, block in enumerate(found):
            if block.file:
                module = Path(block.file).stem
                assert any(module in later.commands for later in found[n + 1 :] if not later.reason), f"{block.where}: {block.file}"


def test_the_make_targets_that_the_pages_name_exist() -> None:
    """`make demo`, `make test`, `make setup` and every other target named is one the Makefile has."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = {target for page in PAGES for target in re.findall(r"\bmake ([a-z-]+)\b", " ".join(_code(page)))}
    assert {"demo", "test", "setup"} <= named <= targets


def _code(page: Path) -> list[str]:
    """What a page sets as code: its blocks, and what stands between backticks."""
    text = page.read_text(encoding="utf-8")
    return [block.text for block in blocks(page)] + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def test_links_lead_somewhere() -> None:
    """Every relative link of a page names a file of the repository; docs/demo.svg is made by `make docs`."""
    for page in PAGES:
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and target != "docs/demo.svg":
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_application_in_the_tutorial_is_the_one_init_writes() -> None:
    """The tutorial's files are, byte for byte, those of `headwater init`."""
    shown = {block.file: block.text for block in blocks(ROOT / "docs" / "tutorial.md") if block.file}
    for name in ("app.py", "test_app.py", "procedures/high-water.md"):
        assert shown[name] == (ROOT / "flows" / "init" / name).read_text(encoding="utf-8"), name


def test_every_setting_is_documented() -> None:
    """docs/operations.md names every variable that settings knows, and docs/interfaces.md every command."""
    from headwater.flows.cli import cli
    from headwater.flows.settings import VARIABLES

    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [name for name in VARIABLES if f"`{name}`" not in operations] == []
    interfaces = (ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")
    names = [command.name or command.callback.__name__ for command in cli.registered_commands if command.callback]
    assert [name for name in names if f"`headwater {name}" not in interfaces] == []


def test_every_test_named_in_the_documentation_exists() -> None:
    """A page that says "proved by tests/…" names a file that is there, and a test in it where it names one."""
    for page in PAGES:
        for file, test in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8")):
            assert (ROOT / file).is_file(), f"{page.name}: {file}"
            assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{page.name}: {file}::{test}"
