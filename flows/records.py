"""How a flow's records reach the lineage topic: sent without waiting, all acknowledged before the epoch that told them can close."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from headwater.flows.sink import Sending, Writer
from headwater.flows.steps import to_lineage
from headwater.flows.thread_state import keep_thread_state
from headwater.lineage.record import Record
from headwater.lineage.runs import Runs

SLOTS = 64
"""Parts of the sink, fixed for the life of a recovery store: as many workers can each have one of their own."""
RUNS_HELD = 1000
"""Ranges that may wait for their neighbours."""
ASK = timedelta(milliseconds=1)
"""How often a worker asks for a slot of its own until it has one."""

Keyed = tuple[str, list[Record]]
Told = Callable[[Sequence[Record]], None]


def together(told: Sequence[Told]) -> Told | None:
    """All of them as one; None if there are none."""
    if len(told) < 2:
        return told[0] if told else None

    def all_of_them(records: Sequence[Record]) -> None:
        for each in told:
            each(records)

    return all_of_them


class RecordSink(FixedPartitionedSink[list[Record], None]):
    """Writes lists of records, keyed by `keyed`, to the lineage topic; `run` names the run of the process that tells them; `told`
    hears of what is written, in lists as steps gave them.

    Bytewax asks a partitioned sink for a snapshot when an epoch ends, and keeps the epoch only with it: there we wait for the broker.
    So what a kept epoch told is acknowledged, and what was not will be told again. Ranges wait for their neighbours until then, or
    until something travels anyway; what was read is told before how it ended.

    That holds for what one worker tells, and only by a slot of its own: each gets one as it starts (`asking`), before a broker has
    answered any of its sources. So whoever tells how a position ended tells before it that it was read (see `Woken`, `Signalled`).
    """

    def __init__(self, flow: str, writer: Writer, run: str = "", told: Told | None = None) -> None:
        self._flow, self._writer, self._run, self._told = flow, writer, run, told
        # By thread number: `threading.local` would forget where the state of the engine's threads is not kept (`keep_thread_state`).
        self._slots: dict[int, int] = {}
        self._asked: Counter[int] = Counter()

    def keyed(self, told: list[list[Record]]) -> list[Keyed]:
        """The step before the sink: everything an activation of it brings, to a slot of this very worker, once it is known which is."""
        records = [record for each in told for record in each]
        worker = threading.get_ident()
        slot = self._slots.get(worker)
        if slot is not None:
            return [(str(slot), records)] if records else []
        # Bytewax deals slots out in turn, so that soon one of our own is met; until then others write for us.
        slot = self._asked[worker] % SLOTS
        self._asked[worker] += 1
        return [(str(slot), records)]

    def placed(self) -> bool:
        """Whether the worker whose thread asks has a slot of its own."""
        return threading.get_ident() in self._slots

    def asking(self) -> "Asking":
        """Nothing to tell, again and again, until each worker has a slot of its own."""
        return Asking(self)

    def list_parts(self) -> list[str]:
        return [f"{slot:02d}" for slot in range(SLOTS)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_Partition":
        self._slots[threading.get_ident()] = int(for_part)
        return _Partition(self._flow, self._writer, self._run, self._told)


class Asking(DynamicSource[list[Record]]):
    """See `RecordSink.asking`."""

    def __init__(self, sink: RecordSink) -> None:
        self._sink = sink

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Asking":
        keep_thread_state()
        return _Asking(self._sink)


class _Asking(StatelessSourcePartition[list[Record]]):
    def __init__(self, sink: RecordSink) -> None:
        self._sink = sink

    def next_batch(self) -> list[list[Record]]:
        if self._sink.placed():
            raise StopIteration
        return [[]]

    def next_awake(self) -> datetime:
        return datetime.now(UTC) + ASK


class _Partition(StatefulSinkPartition[list[Record], None]):
    def __init__(self, flow: str, writer: Writer, run: str, told: Told | None) -> None:
        self._flow, self._largest, self._run, self._told = flow, writer.largest, run, told
        self._sending = Sending(writer)
        self._runs = Runs()

    def write_batch(self, values: list[list[Record]]) -> None:
        if self._told is not None:
            for records in values:
                self._told(records)
        facts = [record for records in values for record in records if not self._runs.add(record)]
        if facts or len(self._runs) > RUNS_HELD:
            self._send(facts)

    def _send(self, facts: Sequence[Record]) -> None:
        read, ended = self._runs.take()
        self._sending.send(to_lineage(self._flow, [*read, *facts, *ended], self._largest, self._run))

    def snapshot(self) -> None:
        """An epoch ends, the last one included. Raises as `settle` does; the epoch is then not kept.

        There is nothing left for `close`, which must not raise: it is also called while the flow ends of an error, and a second one
        would end the whole process.
        """
        self._send(())
        self._sending.settle()
