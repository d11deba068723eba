"""The analysts' notebooks, executed on data of one day of the demo, which they share."""

import fcntl
import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import headwater.flows.demo as demo
from headwater.enrichers.testing import HashEmbedder
from headwater.flows.up import Up

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
TOUR = NOTEBOOKS / "tour.py"
ALL = sorted(NOTEBOOKS.glob("*.py"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Shared by all workers of a test run: the day is replayed once."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return tmp_path_factory.mktemp("home")
    shared = tmp_path_factory.getbasetemp().parent / "notebooks"
    shared.mkdir(exist_ok=True)
    return shared


@pytest.fixture(scope="module")
def toured(home):
    """The notebook run where no demo was run before: it makes its own day, here with a tiny embedder. Outputs and definitions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWATER_HOME", str(home))
        patch.setattr(demo, "Up", functools.partial(Up, embedder=HashEmbedder()))
        spec = importlib.util.spec_from_file_location("tour", TOUR)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with (home / "turn").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # another worker may be replaying the day
            outputs, found = module.app.run()
    yield outputs, found
    found["lineage"].close()


def test_the_tour_makes_its_data_where_there_is_none(toured, home):
    """Without a lineage file the notebook replays the first day of the blizzard, and finds its cancelled flights: 472."""
    _, found = toured
    assert found["file"] == home / "demo" / "lineage.duckdb"
    assert found["flights"].filter(found["flights"]["status"] == "cancelled").height == 472


def test_the_tour_shows_what_happened_and_why(toured):
    """Activations of the storm, a decision with its path and its evidence, every position accounted for."""
    _, found = toured
    assert {"EWR", "JFK", "LGA"} <= set(found["activations"].filter(found["activations"]["rule"] == "cancellations")["key"])
    assert found["why"].decisions[0].id == found["one"]
    assert found["evidence"].height > 0
    assert found["conservation"]["consumed"].to_list() == found["conservation"]["ended_or_open"].to_list()


def test_pictures_and_tables_need_no_resources_from_outside(toured):
    """What the cells show is plain HTML with drawings inside: nothing is fetched, and every cell that shows shows something."""
    outputs, found = toured
    shown = [output.text for output in outputs if output is not None]
    assert sum("data:image/svg+xml" in text for text in shown) >= 2
    assert sum("<table>" in text for text in shown) >= 6
    assert not any("src='http" in text or 'src="http' in text for text in shown)
    assert found["timeline"].text in shown


def test_the_tour_runs_as_a_script(toured, home):
    """`python notebooks/tour.py` on a file that is there: exit 0."""
    toured[1]["lineage"].close()
    given = {**os.environ, "HEADWATER_HOME": str(home)}
    ran = subprocess.run([sys.executable, TOUR], env=given, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def opened(toured, home):
    """A notebook by its name, run on the day that the tour made: what its cells show, and what they define."""
    toured[1]["lineage"].close()  # a file is open once per process
    known = {}

    def of(name):
        if name not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("HEADWATER_HOME", str(home))
                patch.syspath_prepend(str(NOTEBOOKS))
                spec = importlib.util.spec_from_file_location(name, NOTEBOOKS / f"{name}.py")
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                known[name] = module.app.run()
            known[name][1]["lineage"].close()
        return known[name]

    return of


@pytest.mark.parametrize("name", ["audit", "freshness", "quality", "impact", "who_saw"])
def test_every_notebook_shows_tables_and_pictures_and_fetches_nothing(opened, name):
    """Each begins with what it is about, draws at least once, and needs nothing from outside."""
    shown = [output.text for output in opened(name)[0] if output is not None]
    assert "<h1" in shown[0]
    assert any("data:image/svg+xml" in text for text in shown) and any("<table>" in text for text in shown)
    assert not any("src='http" in text or 'src="http' in text or "<script" in text for text in shown)


def test_the_audit_finds_the_chain_whole_and_nothing_lost(opened):
    """The chain follows, batch by batch; what each flow read has ended or waits; the decision's evidence is what its record holds."""
    found = opened("audit")[1]
    assert found["chained"]["each follows the one before"].to_list() == [True]
    assert all(read == ended + waits for _, read, ended, waits in found["lost"].iter_rows())
    assert found["evidence"].height == len(found["chunks"]) and found["events"].height > 0 and found["rulings"].height > 0


def test_freshness_counts_every_document_once(opened):
    """Per topic and per second the documents add up to all of them."""
    found = opened("freshness")[1]
    assert found["quantiles"]["documents"].sum() == found["fresh"].height > 1000
    assert round((found["by_second"]["documents"] * found["width"]).sum()) == found["fresh"].height


def test_quality_judges_every_decision_and_thresholds_trade_mistakes_for_questions(opened):
    """The table of choices holds all decisions; a higher threshold never decides more nor errs more by itself."""
    found = opened("quality")[1]
    assert found["confusion"]["decisions"].sum() == found["judged"].height > 0
    for column in ("decides itself", "mistakes it makes itself"):
        counts = found["thresholds"][column].to_list()
        assert counts == sorted(counts, reverse=True)
    assert abs(sum(found["then"].values()) - 1) < 1e-9 and abs(sum(found["now"].values()) - 1) < 1e-9
    assert found["index"](found["then"], found["then"]) == 0 <= found["index"](found["then"], found["now"])


def test_impact_counts_every_decision_and_judges_by_the_flights_that_followed(opened):
    """How decisions ended adds up; hindsight knows each flight's end, and on this day cancelled ones are among them."""
    found = opened("impact")[1]
    assert found["ended"]["len"].sum() == found["decisions"].height > 0
    assert found["flights"]["cancelled"].sum() == 472
    assert found["hindsight"].height > 0 and found["errors"]["decisions"].sum() == found["hindsight"].height


def test_nobody_saw_anything_from_the_future(opened):
    """No decision was shown a version newer than any that ever reached the index; every look is told."""
    found = opened("who_saw")[1]
    assert found["outdated"]["from the future"].sum() == 0
    assert found["mattered"]["shown"].sum() == found["seen"].height > 0 and found["versions"].height > 0


def test_the_notebooks_are_sound():
    """`marimo check`: no name defined twice, no cycles, the files as marimo writes them."""
    given = [path for path in ALL if path.name != "drawing.py"]
    assert len(given) == 6
    ran = subprocess.run([sys.executable, "-m", "marimo", "check", "--strict", *given], capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stdout + ran.stderr
