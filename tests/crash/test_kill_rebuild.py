"""kill -9 inside a rebuild of the index: whoever goes on ends with the index that nobody disturbed."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
from crash.rebuilder import POINTS, Note

from headwater.flows.broker import Broker
from headwater.flows.sink import Outgoing, Writer

PROGRAM = Path(__file__).with_name("rebuilder.py")


def events(topic: str) -> list[Outgoing]:
    """Thirty documents in three versions, some of them ended, some late."""
    notes = [Note(f"n{n % 30}", 1 + n // 30, None if n % 17 == 5 else f"note {n} of many") for n in range(90)]
    notes += [Note("n3", 1, "too late"), Note("n4", 9, "the last word")]
    headers = [("ce_specversion", b"1.0"), ("ce_source", b"test"), ("ce_type", b"note")]
    return [
        Outgoing(topic, note.id.encode(), msgspec.json.encode(note), [*headers, ("ce_id", f"e{n}".encode())], int(note.id[1:]) % 2)
        for n, note in enumerate(notes)
    ]


def rebuilt(broker: Broker, home: Path, topic: str, *points: str) -> Any:
    known = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    command = [sys.executable, str(PROGRAM), broker.address, str(home), topic, *points]
    done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_rebuild_killed_at_every_step_ends_as_if_it_never_was(tmp_path):
    """A process is killed at each step in turn, between the store's and after the last; the next goes on; the index is the same."""
    topic = f"notes-{uuid.uuid4().hex[:8]}"
    with Broker() as broker:
        broker.kafka.create({topic: 2})
        Writer(broker.kafka, broker.id).write(events(topic))
        undisturbed = rebuilt(broker, tmp_path / "calm", topic)
        disturbed = rebuilt(broker, tmp_path / "killed", topic, *POINTS)
    assert disturbed == undisturbed
    assert len(undisturbed["heads"]) == 30 and undisturbed["changes"] == {} and not undisturbed["begun"]
    assert any("aloud" in text for _, text, live in undisturbed["points"] if live)
