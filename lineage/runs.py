"""runs: ranges that touch become one, before they travel. A busy flow tells of thousands of batches, and they lie side by side."""

import msgspec

from headwater.lineage.event import Position
from headwater.lineage.record import Record, record_id

_RANGED = frozenset(("consumed", "absent", "outcome"))
Lane = tuple[str, str, str, str, int, str]


class Runs:
    """Range records on their way that say nothing but where: of each lane (kind, flow, place, outcome) the last may still grow.

    What is put in comes out as the same offsets with the same counts; only how they are cut may differ. What overlaps is never joined:
    an offset told twice stays told twice.
    """

    def __init__(self) -> None:
        self._open: dict[Lane, list[Record]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many records would come out."""
        return self._count

    def add(self, record: Record) -> bool:
        """Take a record, if it is a plain range; False: it is none, and stays the caller's."""
        if record.kind not in _RANGED or record.ref or record.parents or record.data or record.at is not None:
            return False
        lane = (record.kind, record.flow, record.broker, record.topic, record.partition, record.outcome)
        runs = self._open.setdefault(lane, [])
        if runs and runs[-1].next == record.first:
            runs[-1] = _joined(runs[-1], record)
        else:
            runs.append(record)
            self._count += 1
        return True

    def take(self) -> tuple[list[Record], list[Record]]:
        """What was read, and how it ended; nothing is left."""
        read: list[Record] = []
        ended: list[Record] = []
        for lane, runs in self._open.items():
            (ended if lane[0] == "outcome" else read).extend(map(_named, runs))
        self._open, self._count = {}, 0
        return read, ended


def _joined(left: Record, right: Record) -> Record:
    return msgspec.structs.replace(left, id="", next=right.next, count=left.count + right.count, logged=max(left.logged, right.logged))


def _named(run: Record) -> Record:
    """A run that grew is named by what it has become, as `run_of` names one."""
    if run.id:
        return run
    where = Position(run.broker, run.topic, run.partition, run.first)
    return msgspec.structs.replace(run, id=record_id(run.flow, run.kind, where, run.next, run.outcome))
