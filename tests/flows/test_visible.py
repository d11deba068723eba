"""What events say, on a terminal."""

import io
import json
import sys

import pytest
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from headwater.flows import cli, options, screen
from headwater.lineage.errors import NotFound

HOSTILE = "a\x1b[31mb\x1b]0;title\x07c\x9b1md\x7fe\u202ef\rg"
SHOWN = "a\ufffd[31mb\ufffd]0;title\ufffdc\ufffd1md\ufffde\ufffdf\ufffdg"

DRAWN = "a\ufffd[31mb\ufffd]0;titlec\ufffd1md\ufffde\ufffdfg"
"""rich itself leaves out bells and carriage returns."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table() -> Table:
    made = Table("said")
    made.add_row(HOSTILE)
    return made


def tree() -> Tree:
    made = Tree("root")
    made.add(Text(HOSTILE))
    return made


@pytest.mark.parametrize("shown", [Text(HOSTILE), table(), tree(), HOSTILE], ids=["text", "table", "tree", "string"])
def test_no_text_drives_the_terminal(monkeypatch, shown):
    """Whatever holds it, each control of it is a sign; colours of our own still reach the terminal."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = screen.console()
    out.print(shown, markup=False, highlight=False)
    out.print(Text("ours", style="red"))
    told = terminal.getvalue()
    assert DRAWN in told and "\x1b]0" not in told and not any(each in told for each in "\x07\x9b\x7f\u202e\r")
    assert "\x1b[31mours\x1b[0m" in told


def test_data_is_the_same_and_cannot_drive_it_either(capsys):
    """JSON escapes what it may, and says the same."""
    options.print_json({"text": HOSTILE, "name": "café"})
    told = capsys.readouterr().out
    assert json.loads(told) == {"text": HOSTILE, "name": "café"} and "café" in told
    assert not any(each in told for each in "\x1b\x07\x9b\x7f\u202e\r")


def test_an_error_is_shown_alike(monkeypatch, capsys):
    """A sentence may name what an event said."""

    def fails() -> None:
        raise NotFound(f"no document {HOSTILE}", candidates=[HOSTILE])

    monkeypatch.setattr(cli, "cli", fails)
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == f"headwater: no document {SHOWN}\n  {SHOWN}\n"
