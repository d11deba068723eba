"""The demo, as a user runs it: one day of real data through the whole walk, with the real model."""

import json
import os
import subprocess
import sys

import pytest

from headwater.flows.door import LINEAGE_FILE
from headwater.lineage.client import connect


def demo(home, *arguments):
    summary = home / "summary.json"
    command = [sys.executable, "-m", "headwater", "demo", "--json", str(summary), "--home", str(home), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=800, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return json.loads(summary.read_text()), result.stdout


pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the blizzard's second day."""
    home = tmp_path_factory.mktemp("demo")
    return home, *demo(home, "--from", "2013-02-09")


def test_every_offset_is_accounted_for(run):
    """Conservation: what was published is indexed, stale or a dead letter, and nothing else; verify finds no offence."""
    _, summary, screen = run
    ended = summary["outcomes"]["index"]
    published = sum(summary["published"].values())
    assert summary["verified"], summary["offences"]
    assert ended["indexed"] + ended["stale"] + ended["dead_lettered"] == published
    assert ended["passed"] == summary["marks"]
    assert summary["dead_letters"] == {"invalid": 2, "undecodable": 1}
    assert "every offset of every flow accounted for" in screen


def test_the_storm_is_decided(run):
    """The cancellation rule fires at every airport, each activation is decided once, and at least one is acted on."""
    _, summary, _ = run
    opened = {a["key"] for a in summary["fired"] if a["rule"] == "cancellations" and a["phase"] == "opened"}
    woken = [a["id"] for a in summary["fired"] if a["phase"] in ("opened", "updated")]
    assert opened == {"EWR", "JFK", "LGA"}
    assert sorted(choice["activation"] for choice in summary["choices"]) == sorted(woken)
    assert summary["decisions"]["acted"] >= 1


@pytest.mark.long
def test_two_runs_are_the_same(run, tmp_path):
    """Two runs give the same activations, byte for byte, and the same choices."""
    _, first, _ = run
    second, _ = demo(tmp_path, "--from", "2013-02-09")
    assert first["fired"] == second["fired"]
    told = ("activation", "agent", "choice", "confidence", "outcome", "id")
    assert [{name: c[name] for name in told} for c in first["choices"]] == [{name: c[name] for name in told} for c in second["choices"]]


def test_the_last_screen_answers_why(run):
    """The screen names a decision, what woke it, what it saw, what else it considered and what it did, and one event's life."""
    _, _, screen = run
    for words in ("why ", "woken by", "saw", "options", "did", "one event's life", "freshness p50", "try "):
        assert words in screen


def test_every_plan_was_published_once(run):
    """Each acted decision has one effect, with an id and a place of its own."""
    home, summary, _ = run
    with connect(home / "demo" / LINEAGE_FILE) as lineage:
        effects = lineage.sql("SELECT id, position, decision FROM effects")
    assert effects.height == summary["decisions"]["acted"]
    assert effects["id"].n_unique() == effects["position"].n_unique() == effects["decision"].n_unique() == effects.height


@pytest.mark.long
@pytest.mark.timeout(900)
def test_three_days_act_and_ask(tmp_path):
    """7 to 9 February: at least one decision acted on and one sent to a person."""
    summary, _ = demo(tmp_path)
    assert summary["verified"], summary["offences"]
    assert summary["decisions"]["acted"] >= 1
    assert summary["decisions"]["waiting"] >= 1


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_year_through_the_broker(tmp_path):
    """All of 2013, decode and detect only: what the rules must find and what they must not."""
    summary, screen = demo(tmp_path, "--from", "2013-01-01", "--to", "2013-12-31", "--no-index")
    rules = {rule["rule"]: rule for rule in summary["score"]["rules"]}
    months = rules["cancellations"]["months"]
    assert summary["verified"], summary["offences"]
    assert sum(month["disrupted_fired"] for month in months) == sum(month["disrupted"] for month in months) == 17
    assert sum(month["ordinary_fired"] for month in months) <= 10
    assert sum(month["ordinary_fired"] for month in rules["delays"]["months"]) <= 0.02 * 546
    assert summary["score"]["fired_on_quiet_day"] == []
    assert all(opened <= 3 for opened in summary["score"]["opened_in_storm"].values())
    assert "January" in screen
    assert "December" in screen
