"""Files as documents: published as they are, again when they change, and gone when they go; remembered over restarts."""

import json
import os
import time

import pytest

from headwater.enrichers.document import Files
from headwater.flows.app import FILES_TOPIC
from headwater.flows.files import Watch, file_events
from headwater.flows.gateway import Accepted
from headwater.lineage.event import Event, Position

NOW = 1_900_000_000_000_000


class Taken:
    """A gateway that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, topic, events):
        assert topic is FILES_TOPIC
        self.events += events
        return [Accepted(event, Position("b", topic.name, 0, n)) for n, event in enumerate(events)]

    @property
    def told(self) -> list[tuple[str, str | None]]:
        """(path, text) of what came since the last call."""
        found = [(event.subject, json.loads(event.data)["text"]) for event in self.events]
        self.events = []
        return found


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("one")
    (tmp_path / "docs" / "b.md").write_text("two")
    (tmp_path / "docs" / "c.txt").write_text("three")
    return tmp_path


@pytest.fixture
def taken():
    return Taken()


def watch(folder, taken) -> Watch:
    return Watch([Files("docs/*.md")], folder, taken, folder / "home" / "files.json", lambda: NOW)


def change(path, text: str, at: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(at, at))


def test_what_matches_is_published_once(folder, taken):
    """Each file under the pattern once, and not again while it stays as it is."""
    files = watch(folder, taken)
    positions = files.publish()
    assert taken.told == [("docs/a.md", "one"), ("docs/b.md", "two")]
    assert len(positions) == 2
    assert files.publish() == []
    assert taken.told == []


def test_a_change_a_new_file_and_one_that_goes(folder, taken):
    """Only what is different since the last time is published; a file that is gone says so once, and may come back."""
    files = watch(folder, taken)
    files.publish()
    taken.events = []
    change(folder / "docs" / "a.md", "one more", 2_000_000_000_000_000_000)
    (folder / "docs" / "d.md").write_text("four")
    (folder / "docs" / "b.md").unlink()
    files.publish()
    assert sorted(taken.told) == [("docs/a.md", "one more"), ("docs/b.md", None), ("docs/d.md", "four")]
    files.publish()
    assert taken.told == []
    (folder / "docs" / "b.md").write_text("back")
    files.publish()
    assert taken.told == [("docs/b.md", "back")]


def test_one_that_went_while_nothing_ran_is_gone(folder, taken):
    """The memory outlives the process: a file removed between two runs is told as gone by the second."""
    watch(folder, taken).publish()
    taken.events = []
    (folder / "docs" / "b.md").unlink()
    second = watch(folder, taken)
    second.publish()
    assert taken.told == [("docs/a.md", "one"), ("docs/b.md", None)]
    second.publish()
    watch(folder, taken).publish()
    assert taken.told == [("docs/a.md", "one")]


def test_an_unchanged_file_is_the_same_event(folder):
    """Two runs over the same file give the same event id, so that the second is no new version; another content gives another."""

    def ids() -> list[str]:
        return [event.id for event in file_events([Files("docs/a.md")], folder, (), NOW)]

    first = ids()
    assert ids() == first
    change(folder / "docs" / "a.md", "other", os.stat(folder / "docs" / "a.md").st_mtime_ns)
    assert ids() != first


def test_since_is_the_event_time(folder):
    """`since` says from when searches into the past see the file; else its modification time; a file outside the root keeps its path."""
    [event] = file_events([Files("docs/a.md", since="2013-01-01T00:00:00Z")], folder, (), NOW)
    assert event.time == 1_356_998_400_000_000
    [event] = file_events([Files("docs/a.md")], folder, (), NOW)
    assert event.time == (folder / "docs" / "a.md").stat().st_mtime_ns // 1000


def test_bytes_that_are_no_text_do_not_stop_it(folder, taken):
    """A file that is not UTF-8 is published with marks in place of what cannot be read."""
    (folder / "docs" / "a.md").write_bytes(b"caf\xe9")
    watch(folder, taken).publish()
    assert taken.told[0] == ("docs/a.md", "caf�")


def test_files_published_beside_a_running_watch(folder, taken):
    """The watch publishes changes by itself, in the background, until it is closed."""

    files = Watch([Files("docs/*.md")], folder, taken, folder / "files.json", lambda: NOW, every_s=0.01)
    files.publish()
    taken.events = []
    files.start()
    change(folder / "docs" / "a.md", "changed", 2_000_000_000_000_000_000)
    deadline = time.monotonic() + 60
    while not taken.events and time.monotonic() < deadline:
        time.sleep(0.01)
    files.close()
    assert ("docs/a.md", "changed") in taken.told
