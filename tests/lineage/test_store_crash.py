import os
import signal
import subprocess
import sys

import pytest

from headwater.lineage.proof import prove
from headwater.lineage.store import Store
from headwater.lineage.sums import counted, kept
from headwater.lineage.testing import landings, sample_records
from headwater.lineage.verify import verify

MESSAGES = 60
LANDER = f"""
import sys
from pathlib import Path
from headwater.lineage.event import Position
from headwater.lineage.heads import Heads
from headwater.lineage.record import outcomes, run_of
from headwater.lineage.store import Landing, Store
from headwater.lineage.testing import document

def message(n):
    places = [Position("b", "flights", 0, offset) for offset in range(n * 20, n * 20 + 20)]
    consumed = run_of("consumed", "index", places[0], n * 20 + 20, 20, 1)
    return [consumed, *map(document, places), *outcomes("index", [(p, "indexed") for p in places], 1)]

store = Store(sys.argv[1], clock=lambda: 1)
heads = Heads(Path(sys.argv[1]).parent, clock=lambda: 1)
for n in range(store.offsets("b").get(0, 0), {MESSAGES}):
    if sys.argv[2] == "ahead":
        store.land_ahead([Landing("b", 0, n, message(n))], lambda landed: print(landed.batch, flush=True))
    else:
        store.land([Landing("b", 0, n, message(n))])
        print(n, flush=True)
    if n % 4 == 3:
        heads.keep(store.head())
heads.keep(store.head())
store.close()
"""


@pytest.mark.parametrize("way", ["each", "ahead"])
def test_killed_and_resumed_nothing_is_lost_or_twice(way, tmp_path):
    """Law 1: the landing process killed -9 twice and resumed from its offsets leaves what an undisturbed run leaves, also where one
    batch is made ready while another lands."""
    path = tmp_path / "lineage.duckdb"
    for kill_after in (7, 19, None):
        with subprocess.Popen([sys.executable, "-c", LANDER, str(path), way], stdout=subprocess.PIPE, text=True) as process:
            for count, _ in enumerate(process.stdout, 1):
                if count == kill_after:
                    os.kill(process.pid, signal.SIGKILL)
    with Store(path, clock=lambda: 1) as store:
        verdict = prove(store, tmp_path, in_flight_ok=False)
        assert verdict.ok, verdict.offences
        assert verdict.totals == {"index": {"indexed": MESSAGES * 20}} and verdict.replayed == 0
        assert verdict.records == MESSAGES * 22 and store.offsets("b") == {0: MESSAGES}
        assert verdict.signed == verdict.records
        with store.cursor() as cursor:
            assert cursor.execute("SELECT count(*), count(DISTINCT body) FROM contents").fetchall() == [(MESSAGES * 20, MESSAGES * 20)]
            assert kept(cursor) == counted(cursor) and kept(cursor)["event"].texts == MESSAGES * 20


ERASER = """
import sys
from headwater.lineage.erase import plan
from headwater.lineage.store import Store

with Store(sys.argv[1], clock=lambda: int(sys.argv[2])) as store:
    for subject in sys.argv[3:]:
        print(subject, flush=True)
        store.remove(plan(store, subject, by="ann", why="asked", day="today")[1])
"""


def test_killed_while_it_erases_each_subject_is_gone_whole_or_there_whole(tmp_path):
    """An erasure that was killed is recorded and done, bytes included once the file is opened again, or nothing of it happened."""
    path = tmp_path / "lineage.duckdb"
    records = sample_records()
    texts = {each.data["document"]: each.data["chunks"][0]["text"] for each in records if each.kind == "document"}
    with Store(path, clock=lambda: 1) as store:
        store.land(landings(records))
    left = list(texts)
    for life, kill_after in enumerate((2, 3), 2):
        command = [sys.executable, "-c", ERASER, str(path), str(life), *left[:4]]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for count, _ in enumerate(process.stdout, 1):
                if count == kill_after:
                    os.kill(process.pid, signal.SIGKILL)
        with Store(path, clock=lambda: 9) as store:
            assert verify(store, in_flight_ok=False).ok
            with store.cursor() as cursor:
                erased = {row[0] for row in cursor.execute("SELECT subject FROM removals").fetchall()}
                told = dict(cursor.execute("SELECT document, text FROM chunks").fetchall())
                assert kept(cursor) == counted(cursor)
        assert len(erased) >= len(texts) - len(left) + kill_after - 1
        bytes_left = path.read_bytes()
        for subject, text in texts.items():
            assert told[f"flight_status/{subject}"] == ("erased on today" if subject in erased else text)
            assert (text.encode() in bytes_left) == (subject not in erased)
        left = [subject for subject in left if subject not in erased]
