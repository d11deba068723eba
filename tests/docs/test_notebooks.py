"""The analysts' notebook, executed on data of a day of the demo."""

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
TOUR = ROOT / "notebooks" / "tour.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def toured(home):
    """The notebook run where no demo was run before: it makes its own day, here with a tiny embedder. Outputs and definitions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWATER_HOME", str(home))
        patch.setattr(demo, "Up", functools.partial(Up, embedder=HashEmbedder()))
        spec = importlib.util.spec_from_file_location("tour", TOUR)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
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
    ran = subprocess.run([sys.executable, TOUR], env=given, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


def test_the_tour_is_a_sound_notebook():
    """`marimo check`: no name defined twice, no cycles, the file as marimo writes it."""
    ran = subprocess.run([sys.executable, "-m", "marimo", "check", "--strict", TOUR], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
