"""Threads change places often where flows and answers share an interpreter."""

import sys

import pytest

from headwater.flows.app import App
from headwater.flows.recovery import hold
from headwater.flows.settings import Settings
from headwater.flows.switching import INTERVAL_S, LANDING_S, switch_often
from headwater.flows.up import Up
from headwater.lineage.errors import Misused


def test_threads_of_a_started_application_change_places_often(tmp_path):
    """Whatever comes of the start: no thread that computes keeps those who answer waiting for CPython's 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        with hold(tmp_path / "lock", "another process"), pytest.raises(Misused):
            Up(App("held"), Settings(home=tmp_path)).start()
        assert sys.getswitchinterval() == pytest.approx(INTERVAL_S)
    finally:
        sys.setswitchinterval(before)


def test_a_process_that_only_lands_changes_places_oftenest():
    """What was made to happen often is not made seldomer again, in whatever order parts of a process ask."""
    before = sys.getswitchinterval()
    try:
        switch_often(LANDING_S)
        oftenest = sys.getswitchinterval()  # in whole µs, so it may be one less
        switch_often()
        assert sys.getswitchinterval() == oftenest == pytest.approx(LANDING_S, abs=1.5e-6)
    finally:
        sys.setswitchinterval(before)
