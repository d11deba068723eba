"""Files as documents: what lies under the declared patterns is published at start, and again when it changes or goes."""

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from headwater.enrichers.document import Files
from headwater.flows.app import FILES_TOPIC, FileText
from headwater.flows.gateway import Gateway
from headwater.flows.run_file import write_whole
from headwater.lineage.duration import parse_time
from headwater.lineage.errors import HeadwaterError
from headwater.lineage.event import Event, Position

_log = structlog.get_logger("headwater.files")

NAMESPACE = uuid.UUID("3b5a3b0e-5a51-5d6c-a7a0-9f3f6f6f0c55")


def file_events(files: Sequence[Files], root: Path, gone: Sequence[str], now: int) -> Iterator[Event]:
    """An event for each file as it is, and for each path of `gone` that no file has any more. `now` in µs."""
    there: set[str] = set()
    for declared in files:
        for path in declared.paths(root):
            name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
            there.add(name)
            changed = path.stat().st_mtime_ns // 1000
            at = parse_time(declared.since) if declared.since else changed
            yield _event(FileText(name, path.read_text(encoding="utf-8", errors="replace"), changed), at)
    for name in gone:
        if name not in there:
            yield _event(FileText(name, None, now), now)


def _event(file: FileText, at: int) -> Event:
    digest = hashlib.sha256((file.text or "").encode()).hexdigest()
    identity = str(uuid.uuid5(NAMESPACE, f"{file.path}\x1f{file.version}\x1f{digest}"))
    kind = "headwater.file.gone" if file.text is None else "headwater.file.changed"
    return Event(id=identity, source="headwater/files", type=kind, subject=file.path, time=at, data=FILES_TOPIC.encode(file))


class Watch:
    """Publishes files that changed, every `every_s` seconds; what was published is remembered in `memory` over restarts."""

    def __init__(
        self, files: Sequence[Files], root: Path, gateway: Gateway, memory: Path, clock: Callable[[], int], every_s: float = 1.0
    ) -> None:
        self._files, self._root, self._gateway, self._memory, self._clock = files, root, gateway, memory, clock
        self._every_s = every_s
        self._known: dict[str, str] = {}
        self._remembered: list[str] = json.loads(memory.read_text()) if memory.is_file() else []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)

    def publish(self) -> list[Position]:
        """Publish what is new since the last call, and wait until the broker has it. Gives the positions."""
        gone = [*self._remembered, *self._known]
        fresh = [e for e in file_events(self._files, self._root, gone, self._clock()) if self._known.get(str(e.subject)) != e.id]
        fresh = [event for event in fresh if not (event.type.endswith("gone") and self._known.get(str(event.subject)) == "")]
        accepted = self._gateway.publish(FILES_TOPIC, fresh)
        for event in fresh:
            self._known[str(event.subject)] = "" if event.type.endswith("gone") else event.id
        self._remembered = []
        there = sorted(name for name, identity in self._known.items() if identity)
        write_whole(self._memory, json.dumps(there))
        return [each.position for each in accepted]

    def start(self) -> None:
        if self._files:
            self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.publish()
            except (OSError, HeadwaterError) as error:
                _log.warning("files not published", error=str(error))

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
