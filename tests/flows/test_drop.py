"""Dropped files: every row once, whatever kills the process; a wrong row is a dead letter and the rest goes on; nothing outside is read."""

import csv
import importlib.util
import io
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import headwater.flows.dropping as dropping
from headwater import Drop, Topic
from headwater.flows.drain import drain, end_of
from headwater.flows.rows import FORMATS, LONGEST_LINE
from headwater.flows.sink import Writer
from headwater.lineage.errors import Misused
from headwater.lineage.message import decode_batch
from headwater.lineage.topic import DEAD, LINEAGE

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("dropper", HERE / "dropper.py")
dropper = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dropper)


class Reading(BaseModel):
    id: str
    metres: float


readings = Topic("readings", Reading, key="id", partitions=2)


@pytest.fixture
def inbox(tmp_path, kafka, name):
    """A folder to drop into, and the topics there must be; what lies in the shared ones already does not count."""
    (tmp_path / "inbox").mkdir()
    kafka.create({name: 2, DEAD: 1, LINEAGE: 1})
    return tmp_path / "inbox"


def turns(part, files: int = 1) -> None:
    """Look at the folder until so many files are dealt with."""
    for _ in range(200):
        part.turn()
        if part.status()["files"] >= files:
            return
    raise AssertionError(part.status())


def produced(kafka, topic: str) -> list:
    return [message for partition in (0, 1) for message in drain(kafka, topic, partition, 0)]


def csv_of(count: int, *, first: int = 0) -> str:
    return "id,metres\n" + "".join(f"r{n},{n / 10}\n" for n in range(first, first + count))


# --- files


@pytest.mark.parametrize("suffix", [".csv", ".json", ".ndjson", ".jsonl", ".parquet"])
def test_each_row_becomes_an_event(kafka, name, inbox, suffix):
    """Whatever the format: the rows' data, keys, origin, in the file's order."""
    frame = pl.DataFrame({"id": [f"r{n}" for n in range(5)], "metres": [n / 2 for n in range(5)]})
    rows = frame.to_dicts()
    path = inbox / f"a{suffix}"
    if suffix == ".csv":
        frame.write_csv(path)
    elif suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    turns(dropper.dropped(kafka, inbox.parent, inbox.parent / "home", name))
    found = produced(kafka, name)
    assert sorted(found, key=lambda m: m.value)[0].key == b"r0"
    assert sorted((json.loads(m.value) for m in found), key=lambda row: row["id"]) == rows
    assert {dict(m.headers)["ce_origin"] for m in found} == {b"drop/inbox"}


def test_a_file_is_read_once_and_a_changed_one_anew(kafka, name, inbox):
    """Over restarts; a file touched or put back unchanged is the same, one with other contents another under the same name."""
    home = inbox.parent / "home"
    (inbox / "a.csv").write_text(csv_of(3))
    turns(dropper.dropped(kafka, inbox.parent, home, name))
    again = dropper.dropped(kafka, inbox.parent, home, name)
    for _ in range(3):
        again.turn()
    os.utime(inbox / "a.csv", (1, 1))
    for _ in range(3):
        again.turn()
    assert len(produced(kafka, name)) == 3
    (inbox / "a.csv").write_text(csv_of(2))
    turns(again)
    ids = Counter(dict(m.headers)["ce_id"] for m in produced(kafka, name))
    assert len(ids) == 5 and set(ids.values()) == {1}


def test_a_file_that_grows_waits(kafka, name, inbox):
    """Taken only once it stood still for `settle` and between two looks."""
    now = time.time_ns() // 1000
    part = dropper.dropped(kafka, inbox.parent, inbox.parent / "home", name, clock=lambda: now)
    part._drop = Drop("inbox/*", into=Topic(name, Reading, key="id", partitions=2), settle="5s")
    for n in range(3):
        (inbox / "a.csv").write_text(csv_of(n + 1))
        now = (inbox / "a.csv").stat().st_mtime_ns // 1000 + 4_000_000
        part.turn()
        part.turn()
    assert part.status()["waiting"] == 1 and produced(kafka, name) == []
    now += 1_000_001
    turns(part)
    assert len(produced(kafka, name)) == 3


def test_wrong_rows_are_dead_letters_and_the_rest_goes_on(kafka, name, inbox):
    """Each with cause, place and its own bytes, and a record; the rows around them keep their numbers and are published."""
    before = end_of(kafka, DEAD, 0), end_of(kafka, LINEAGE, 0)
    lines = ["id,metres", "a,1", "b,much", "c", 'd,"2"', "e,3,4", 'f,"open', "g,4"]
    (inbox / "a.csv").write_bytes("\n".join(lines[:6]).encode() + b"\n\xff\xfe,1\n" + b"h,5\n")
    part = dropper.dropped(kafka, inbox.parent, inbox.parent / "home", name)
    turns(part)
    assert sorted(json.loads(m.value)["id"] for m in produced(kafka, name)) == ["a", "d", "h"]
    letters = drain(kafka, DEAD, 0, before[0])
    told = [(dict(m.headers)["headwater-origin"].decode(), dict(m.headers)["headwater-cause"].decode(), m.value) for m in letters]
    assert told == [
        ("inbox/a.csv:2", "invalid", b"b,much\n"), ("inbox/a.csv:3", "invalid", b"c\n"), ("inbox/a.csv:5", "invalid", b"e,3,4\n"),
        ("inbox/a.csv:6", "undecodable", b"\xff\xfe,1\n"),
    ]  # fmt: skip
    records = [record for m in drain(kafka, LINEAGE, 0, before[1]) for record in decode_batch(m.value)]
    assert [record.data["origin"] for record in records if record.kind == "dead_letter"] == [each[0] for each in told]
    assert part.status()["buried"] == 4 and part.status()["events"] == 3


@pytest.mark.parametrize(("file", "body"), [("a.parquet", b"no parquet"), ("a.json", b"{nonsense"), ("a.csv", b"id,id\n1,2\n")])
def test_a_file_that_is_none_is_one_dead_letter(kafka, name, inbox, file, body):
    """And it is not tried again."""
    before = end_of(kafka, DEAD, 0)
    (inbox / file).write_bytes(body)
    part = dropper.dropped(kafka, inbox.parent, inbox.parent / "home", name)
    turns(part)
    part.turn()
    [letter] = drain(kafka, DEAD, 0, before)
    assert dict(letter.headers)["headwater-origin"] == f"inbox/{file}:1".encode()
    assert dict(letter.headers)["headwater-cause"] == b"undecodable"


def test_nothing_outside_the_folder_is_read(tmp_path):
    """Links to files or folders outside, hidden files, unfinished ones and pipes are left alone; `..` is refused."""
    (tmp_path / "inbox" / "sub").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    for path in ("secret/s.csv", "inbox/a.csv", "inbox/.b.csv", "inbox/c.part", "inbox/d.txt", "inbox/sub/e.csv"):
        (tmp_path / path).write_text("id,metres\n")
    (tmp_path / "inbox" / "link.csv").symlink_to(tmp_path / "secret" / "s.csv")
    (tmp_path / "inbox" / "away").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "inbox" / "pipe.csv")
    for pattern, wanted in (("inbox/*", ["a.csv"]), ("inbox/**/*.csv", ["a.csv", "e.csv"]), ("inbox/*/*.csv", ["e.csv"])):
        assert [path.name for path in Drop(pattern, into=readings).files(tmp_path)] == wanted
    assert dropping._opened(tmp_path / "inbox" / "link.csv") is None
    assert dropping._opened(tmp_path / "inbox" / "pipe.csv") is None
    for pattern in ("../secret/*.csv", "inbox/../secret/*.csv", "inbox/*.txt"):
        with pytest.raises(Misused):
            Drop(pattern, into=readings)


# --- rows


@given(
    st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=20).map(lambda rows: [r for r in rows if any(r)]),
    st.integers(0, 25),
)
def test_csv_rows_are_those_that_were_written(rows, skip):
    """Quotes, commas, line ends within fields: what the csv writer wrote is read, from any row on."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("a", "b"), *rows])
    found = list(FORMATS[".csv"](io.BytesIO(text.getvalue().encode("utf-8", "surrogatepass")), skip))
    assert [row.number for row in found] == list(range(skip + 1, len(rows) + 1))
    assert [(row.value["a"] or "", row.value["b"] or "") for row in found if row.error is None] == rows[skip:]
    assert not any(row.error for row in found)


@given(st.binary(max_size=300), st.sampled_from(sorted(FORMATS)), st.integers(0, 5))
def test_any_bytes_are_rows_or_one_of_our_errors(body, suffix, skip):
    """Whatever lies in a file: rows in order, some of them wrong, or the file as a whole is refused."""
    try:
        numbers = [row.number for row in FORMATS[suffix](io.BytesIO(body), skip)]
    except dropping.HeadwaterError:
        return
    assert numbers == list(range(skip + 1, skip + 1 + len(numbers)))


@pytest.mark.parametrize("suffix", [".csv", ".ndjson"])
def test_a_line_too_long_is_one_wrong_row(suffix):
    """It is not held in memory, and the rows behind it keep their numbers."""
    rows = [b"a,b", b"1,2", b"3," + b"x" * (2 * LONGEST_LINE), b"5,6"]
    body = b"\n".join(rows if suffix == ".csv" else [b"{}", b'{"x": "' + b"x" * (2 * LONGEST_LINE) + b'"}', b"{}"])
    found = list(FORMATS[suffix](io.BytesIO(body), 0))
    assert [(row.number, row.error and row.error.cause) for row in found] == [(1, None), (2, "oversized"), (3, None)]
    assert all(len(row.raw) < LONGEST_LINE for row in found)


# --- kills


class Crash(BaseException):
    """The process dies here."""


class Crashing:
    """Counts steps, and dies before or after the n-th."""

    def __init__(self, at: int, after: bool) -> None:
        self.left, self.after = at, after

    def step(self, do):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Crash
        result = do()
        if self.left == 0:
            raise Crash
        return result


class CrashingWriter(Writer):
    crashing: Crashing

    def write(self, messages):
        return self.crashing.step(lambda: super(CrashingWriter, self).write(messages))


def test_every_row_once_wherever_it_dies(kafka, name, inbox, monkeypatch):
    """Killed before or after any write to the broker or note of progress, and started again: every row and every dead letter once."""
    monkeypatch.setattr(dropping, "BATCH", 4)
    (inbox / "a.csv").write_text(csv_of(6) + "x,wrong\n" + csv_of(5, first=6).partition("\n")[2])
    before = end_of(kafka, DEAD, 0)
    writer = CrashingWriter(kafka, kafka.broker_id())
    saved = dropping.write_whole
    crashes, at, after = 0, 1, False
    while True:
        crashing = writer.crashing = Crashing(at, after)
        monkeypatch.setattr(dropping, "write_whole", lambda *given, crashing=crashing: crashing.step(lambda: saved(*given)))
        part = dropper.dropped(kafka, inbox.parent, inbox.parent / "home", name, writer)
        try:
            turns(part)
            break
        except Crash:
            crashes += 1
            at, after = (at, True) if not after else (at % 6 + 1, False)
            assert crashes < 60
    assert crashes >= 4
    ids = Counter(dict(m.headers)["ce_id"] for m in produced(kafka, name))
    assert sorted(json.loads(m.value)["id"] for m in produced(kafka, name)) == sorted(f"r{n}" for n in range(11))
    assert set(ids.values()) == {1}
    assert len(drain(kafka, DEAD, 0, before)) == 1


@pytest.mark.parametrize("most", [2, pytest.param(25, marks=pytest.mark.long)])
def test_every_row_once_over_kills(kafka, name, inbox, most):
    """A real process, killed with SIGKILL at random moments and started again until it is through: every row once."""
    count = 3000
    (inbox / "a.csv").write_text(csv_of(count))
    home = inbox.parent / "home"
    command = [sys.executable, str(HERE / "dropper.py"), kafka.address, str(inbox.parent), str(home), name]
    chance = random.Random(7)
    kills = 0
    while True:
        process = subprocess.Popen(command, env=dict(os.environ))
        target = _rows(home) + chance.randint(1, count // (most + 1))
        deadline = time.monotonic() + 120
        while process.poll() is None and not (kills < most and _rows(home) >= target):
            assert time.monotonic() < deadline
            time.sleep(chance.random() / 500)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        process.kill()
        process.wait()
        kills += 1
    assert kills > 0
    ids = Counter(dict(m.headers)["ce_id"] for m in produced(kafka, name))
    assert len(ids) == count and set(ids.values()) == {1}


def _rows(home: Path) -> int:
    return sum(json.loads(path.read_text())["rows"] for path in home.glob("*.json"))
