"""The doctor: each check tells what it found, in bounded time, and what to do."""

import io
import os
import socket
import time

import pytest
from rich.console import Console

import headwater.flows.doctor_command as doctor
from headwater.flows.doctor_command import Check, Report
from headwater.flows.recovery import hold
from headwater.flows.run_file import write_run_file
from headwater.flows.settings import Settings
from headwater.lineage.errors import Misused, Unavailable


def printed() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.mark.parametrize(("version", "well"), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), False)])
def test_python(version, well):
    """Only the versions that Bytewax has wheels for are well."""
    assert doctor.python(version).well is well


def test_other_systems_are_refused():
    """The embedded broker is a Linux program."""
    assert doctor.system("Linux", "x86_64").well
    assert not doctor.system("Darwin", "arm64").well


def test_what_hangs_is_not_well():
    """A check that does not answer within its bound is reported, and the doctor goes on."""
    report = doctor.examine(Check("slow", lambda: time.sleep(60), bound=0.05))
    assert not report.well
    assert "0.05 s" in report.found
    assert report.remedy


@pytest.mark.parametrize("error", [Unavailable("the broker is away"), RuntimeError("the broker is away")])
def test_what_raises_is_not_well(error):
    """A check that raises is reported with its error and what to do, never raised."""

    def look() -> Report:
        raise error

    report = doctor.examine(Check("broken", look))
    assert not report.well
    assert "the broker is away" in report.found
    assert report.remedy


def test_a_home_that_another_process_holds_is_not_well(tmp_path):
    """A locked home without a running headwater is told with the holder's pid; unlocked it is well again."""
    with hold(tmp_path / "lock", "a test"):
        report = doctor.home(tmp_path)
        assert not report.well
        assert str(os.getpid()) in report.found
    assert doctor.home(tmp_path).well


def test_a_running_headwater_is_no_fault(tmp_path):
    """Where headwater runs, its home and its port are in use, and that is well: both are named."""
    write_run_file(tmp_path, http="http://127.0.0.1:8470")
    with hold(tmp_path / "lock", "a test"):
        report = doctor.home(tmp_path)
    assert report.well
    assert "http://127.0.0.1:8470" in report.found
    assert doctor.port(Settings(home=tmp_path)).well


def test_looking_at_a_home_makes_nothing(tmp_path):
    """The doctor leaves no trace in a home that is not there yet."""
    home = tmp_path / "deep" / "home"
    assert doctor.home(home).well
    assert doctor.disk(home).found.endswith("GB")
    assert not home.parent.exists()


def test_a_home_below_a_file_is_not_well(tmp_path):
    """A home that cannot be made is told, with the path that stands in its way."""
    (tmp_path / "file").write_text("")
    report = doctor.home(tmp_path / "file" / "home")
    assert not report.well
    assert str(tmp_path / "file") in report.found


def test_few_open_files_are_not_well():
    """What a process may hold open is told, with what to do before it starts."""
    assert doctor.files(1024).well
    few = doctor.files(64)
    assert not few.well and "ulimit -n" in few.remedy


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path):
    """Not a trace: the path, why, and what to set."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Misused, match=r"file/home cannot be written: Not a directory; set HEADWATER_HOME"):
        hold(tmp_path / "file" / "home" / "lock", "headwater")


def test_a_taken_port_is_not_well(tmp_path):
    """A port that somebody listens on is told; port 0 is always free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        report = doctor.port(Settings(home=tmp_path, http_port=taken.getsockname()[1]))
    assert not report.well
    assert "HEADWATER_HTTP__PORT" in report.remedy
    assert doctor.port(Settings(home=tmp_path, http_port=0)).well


def test_what_is_configured_is_looked_at_instead(tmp_path):
    """With Kafka and Qdrant configured, these are asked and not the embedded ones."""
    embedded = [check.name for check in doctor.checks(Settings(home=tmp_path))]
    settings = Settings(home=tmp_path, kafka={"bootstrap.servers": "127.0.0.1:1"}, qdrant_url="http://127.0.0.1:1")
    configured = [check.name for check in doctor.checks(settings)]
    assert {"embedded broker", "embedded Qdrant"} <= set(embedded)
    assert {"Kafka", "Qdrant"} == set(configured) - set(embedded)
    report = doctor.qdrant(settings)
    assert not report.well
    assert "HEADWATER_QDRANT__URL" in report.remedy


def test_embedded_parts_are_tried():
    """The embedded broker carries an event, the engine and the database open."""
    assert doctor.broker().well
    assert doctor.engine().well
    assert doctor.database().well


def test_one_fault_is_enough(monkeypatch, tmp_path):
    """A needed thing that is missing makes the whole not well; an optional one does not; both are printed with the remedy."""
    well, optional = Check("one", lambda: Report(True, "fine")), Check("two", lambda: Report(False, "none", "get it", optional=True))
    fault = Check("three", lambda: Report(False, "broken", "mend it"))
    console = printed()
    monkeypatch.setattr(doctor, "checks", lambda settings: iter([well, optional]))
    assert doctor.run(Settings(home=tmp_path), console)
    monkeypatch.setattr(doctor, "checks", lambda settings: iter([well, optional, fault]))
    assert not doctor.run(Settings(home=tmp_path), console)
    text = console.file.getvalue()
    assert "✗ three" in text
    assert "mend it" in text
    assert "get it" in text
