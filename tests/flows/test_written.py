import pytest

from headwater.flows.ask_command import run
from headwater.flows.settings import load
from headwater.flows.written import write
from headwater.lineage.errors import Misused
from headwater.lineage.store import Store


def test_what_cannot_be_written_is_told(tmp_path, capsys):
    """A folder that is not there, or one in the place of a file, is an error that names it; what was written is told."""
    for path in (tmp_path / "no" / "page.html", tmp_path):
        with pytest.raises(Misused, match=f"{path} cannot be written: "):
            write(path, "page")
    write(tmp_path / "page.html", "öffnet")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "öffnet"
    assert capsys.readouterr().out == f"written to {tmp_path / 'page.html'}\n"


def test_a_page_of_an_answer_that_cannot_be_written_is_told(tmp_path):
    """`headwater ask --html` into nowhere is the user's mistake, no traceback."""
    Store(tmp_path / "lineage.duckdb", clock=lambda: 1).close()
    with pytest.raises(Misused, match="cannot be written"):
        run(load({"HEADWATER_HOME": str(tmp_path)}), "cost", [], as_json=False, html=tmp_path / "no" / "page.html")
