"""What a run of the bench `recovery` left: the rules' state, the index, lineage, the activations; and what two runs differ in."""

import pickle
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from headwater.agents.state import thaw
from headwater.enrichers.edge import EdgeIndex
from headwater.flows.bench.bed import Spoiled
from headwater.flows.bench.meters import SIZE
from headwater.flows.drain import drain
from headwater.flows.kafka import Kafka
from headwater.lineage.store import open_database
from headwater.lineage.topic import ACTIVATIONS
from headwater.lineage.verify import verify

AT_ONCE = 1000
APPENDED = 6
"""Which part of an entry in a rule's window is its append time."""
ALIKE = {"unchanged": "indexed", "stale": "indexed"}
"""What an event that was indexed may end as when it comes again after a kill."""
_FACTS = """SELECT kind, flow, step, ref, topic, "partition", "first" FROM records
    WHERE kind NOT IN ('consumed', 'absent', 'outcome', 'run')"""
_ENDED = 'SELECT flow, "partition", outcome, sum(count)::BIGINT FROM outcomes WHERE topic = ? GROUP BY ALL'


class Remains(NamedTuple):
    """What a run left.

    activations  id → body;  again  how many messages were written again under their ids
    state        rule → key → what the rule remembers of it
    indexed      document → its version, the event it is of, and its chunks' texts; and how many points there are
    facts        what lineage tells besides ranges, each as often as it is there
    ended        (flow, partition, outcome) → positions
    """

    activations: dict[str, bytes]
    again: int
    state: dict[str, dict[str, Any]]
    indexed: dict[str, Any]
    facts: Counter[tuple[Any, ...]]
    ended: Counter[tuple[str, int, str]]


def remains(home: Path, kafka: Kafka, broker: str, topic: str, partitions: int, meters: int) -> Remains:
    """What lies in a home and at its broker after a clean stop. Raises Spoiled if lineage does not verify."""
    messages = [m for partition in range(partitions) for m in drain(kafka, ACTIVATIONS, partition, 0, "read_uncommitted")]
    activations: dict[str, bytes] = {}
    for message in messages:
        id = dict(message.headers)["ce_id"].decode()
        if activations.setdefault(id, message.value or b"") != message.value:
            raise Spoiled(f"activation {id} was written twice and differs")
    with open_database(home / "lineage.duckdb", read_only=True) as lineage:
        found = verify(lineage, in_flight_ok=False)
        if not found.ok:
            raise Spoiled(f"lineage does not verify: {found.offences[0]}")
        facts = Counter(lineage.execute(_FACTS).fetchall())
        ended: Counter[tuple[str, int, str]] = Counter()
        for flow, partition, outcome, many in lineage.execute(_ENDED, [topic]).fetchall():
            ended[flow, partition, ALIKE.get(outcome, outcome)] += many
    state = _state(home / "recovery" / "detect" / broker)
    return Remains(activations, len(messages) - len(activations), state, _index(home / "index", meters), facts, ended)


def _state(store: Path) -> dict[str, dict[str, Any]]:
    """What the rules remembered when the flow stopped."""
    newest: tuple[int, bytes] = (-1, b"")
    for part in store.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(part)) as opened:
            rows = opened.execute("SELECT snap_epoch, ser_change FROM snaps WHERE step_id LIKE '%.rules%' AND ser_change IS NOT NULL")
            newest = max([newest, *rows])
    kept: bytes = pickle.loads(newest[1])  # noqa: S301  (of our own process)
    groups = thaw(kept.partition(b"\n")[2])["groups"]
    return {rule: {key: _timeless(mind) for key, mind in minds.items()} for rule, minds in groups.items()}


def _timeless(mind: dict[str, Any]) -> dict[str, Any]:
    """What a rule remembers of a key, but for when the broker took in each event: no two runs agree on that."""
    return {**mind, "entries": [(*entry[:APPENDED], *entry[APPENDED + 1 :]) for entry in mind["entries"]]}


def _index(path: Path, meters: int) -> dict[str, Any]:
    index = EdgeIndex(path, SIZE)
    try:
        names = [f"report/meter-{meter:05d}" for meter in range(meters)]
        found: dict[str, Any] = {"points": tuple(index.count())}
        for start in range(0, meters, AT_ONCE):
            heads = index.heads(names[start : start + AT_ONCE])
            points = index.points([id for name, head in heads.items() for id in head.current.points(name)])
            for name, head in heads.items():
                texts = [points[id][0].text for id in head.current.points(name) if id in points]
                found[name] = (head.version, head.event, head.current.key, texts)
        return found
    finally:
        index.close()


class Differences(NamedTuple):
    """Things that only the undisturbed run left, and things that only the other left, or left more often."""

    lost: int
    doubled: int


def differences(left: Remains, undisturbed: Remains) -> Differences:
    """Activations, facts of lineage, positions that ended. Raises Spoiled if state or index differ, naming the first key."""
    for what in ("state", "indexed"):
        mine, theirs = getattr(left, what), getattr(undisturbed, what)
        odd = [key for key in theirs.keys() | mine.keys() if theirs.get(key) != mine.get(key)]
        if odd:
            raise Spoiled(f"{what} differs from that of the undisturbed run in {len(odd)} keys, among them {min(odd)}")
    fired = Counter(left.activations.items()), Counter(undisturbed.activations.items())
    pairs: list[tuple[Counter[Any], Counter[Any]]] = [fired, (left.facts, undisturbed.facts), (left.ended, undisturbed.ended)]
    return Differences(sum((whole - mine).total() for mine, whole in pairs), sum((mine - whole).total() for mine, whole in pairs))
