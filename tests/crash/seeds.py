"""All seeds of effects once (law 2), some side by side: python tests/crash/seeds.py [--seeds A..B] [--at-once N]

Of the thousand the first 800 are killed and the others have an owner that stands still, see `seeded`. Which have passed lies in .seeds,
a file for each state of the code, so that what was broken off goes on where it was; what failed is run again. Of a seed that failed
the homes of its processes are kept there, with what was wrong. Ends with 1 if any failed.
"""

import argparse
import functools
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from crash.conftest import Nursery, Victim  # noqa: E402
from crash.done import Done  # noqa: E402
from crash.seeded import KILLED, RUNS, STOPPED, half_of, undisturbed  # noqa: E402
from crash.world import Service, World  # noqa: E402

CODE = ("flows", "agents", "enrichers", "lineage", "tests/crash")
"""What a seed's passing hangs on, and the versions of what is installed."""
MEMORY = Path("/dev/shm")
"""A killed process loses nothing that it wrote, to a disk or here; and nobody waits for a disk here."""

Try = Callable[[str, int], None]


def state_of_code() -> str:
    """A digest of the code as it lies there, committed or not."""
    digest = hashlib.sha256((ROOT / "requirements.lock").read_bytes())
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


class Passed:
    """The seeds that have passed with one state of the code, in a file of a folder."""

    def __init__(self, folder: Path, code: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"passed-{code.replace(' ', '-')}"
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        self.seeds = {int(line.split()[0]) for line in lines}

    def add(self, seed: int, seconds: float) -> None:
        self.seeds.add(seed)
        with self._file.open("a") as told:
            print(seed, named(seed), f"{seconds:.1f} s", file=told)


def named(seed: int) -> str:
    kind, number = kind_of(seed)
    return f"{kind} {number}"


def kind_of(seed: int) -> tuple[str, int]:
    """What kind of run a seed of the thousand stands for, and which of them."""
    return ("kill", seed) if seed < KILLED else ("stop", seed - KILLED)


def run(wanted: Iterable[int], passed: Passed, attempt: Try, *, at_once: int, spent: Callable[[], float] = time.process_time) -> int:
    """Run those of the seeds that have not passed; a line for each. Gives the status to end with.

    attempt  raises if a run is not as it must be;  spent  processor seconds so far, of all that take part
    """
    seeds = list(wanted)
    due = [seed for seed in seeds if seed not in passed.seeds]
    failed, began = 0, spent()

    def timed(seed: int) -> float:
        start = time.monotonic()
        attempt(*kind_of(seed))
        return time.monotonic() - start

    with ThreadPoolExecutor(at_once) as places:
        running = {places.submit(timed, seed): seed for seed in due}
        try:
            for number, future in enumerate(as_completed(running), 1):
                seed, error = running[future], future.exception()
                if error is None:
                    passed.add(seed, future.result())
                failed += error is not None
                how = "passed" if error is None else f"failed: {type(error).__name__}: {str(error)[:2000]}"
                there, each = len(passed.seeds.intersection(seeds)), (spent() - began) / number
                standing = f"{there} of {len(seeds)} passed, {failed} failed, {each:.1f} processor seconds each"
                print(f"{named(seed)} {how}   {standing}", flush=True)
        finally:
            places.shutdown(cancel_futures=True)  # told to end, it finishes what runs and begins nothing
    return 1 if failed else 0


class Ground:
    """What all runs stand on: one nursery, one service; a broker and homes are each run's own."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._nursery, self._service = Nursery(), Service()
        self._halves = [threading.Lock() for _ in range(2)]
        self._left_alone = functools.cache(self._undisturbed)

    def attempt(self, kind: str, seed: int) -> None:
        """One seed. Raises AssertionError, and whatever goes wrong; its homes are kept then."""
        half = half_of(kind, seed)
        with self._halves[half]:
            expected = self._left_alone(half)
        found = self._in_world(f"{kind}-{seed}", half, lambda world: RUNS[kind](world, seed))
        assert found == expected, f"what is left differs from an undisturbed run: {_difference(found, expected)}"

    def _undisturbed(self, half: int) -> Done:
        return self._in_world(f"undisturbed-{half}", half, undisturbed)

    def _in_world(self, name: str, half: int, live: Callable[[World], Done]) -> Done:
        folder = Path(tempfile.mkdtemp(prefix="headwater-seed-", dir=MEMORY if MEMORY.is_dir() else None))
        begun: list[Victim] = []

        def start(*where: Any, **plan: Any) -> Victim:
            begun.append(Victim(self._nursery, *where, **plan))
            return begun[-1]

        try:
            world = World(name, half, folder / "home", start, self._service)
            try:
                return live(world)
            finally:
                for victim in begun:
                    victim.close()
                world.close()
        except BaseException:
            shutil.rmtree(self._kept / name, ignore_errors=True)
            shutil.copytree(folder, self._kept / name)
            (self._kept / name / "wrong").write_text(traceback.format_exc())
            raise
        finally:
            shutil.rmtree(folder)

    def spent(self) -> float:
        """Processor seconds of this process and of all that it started."""
        return sum(os.times()[:4]) + self._nursery.spent

    def close(self) -> None:
        self._nursery.close()
        self._service.close()


def _difference(found: Done, expected: Done) -> str:
    return "; ".join(
        f"{name}: {_odd(ours, theirs)}" for name, ours, theirs in zip(Done._fields, found, expected, strict=True) if ours != theirs
    )


def _odd(found: Any, expected: Any) -> str:
    pairs = [set(each.items()) if isinstance(each, dict) else set(each) for each in (found, expected)]
    return f"{sorted(map(str, pairs[0] - pairs[1]))[:5]} in place of {sorted(map(str, pairs[1] - pairs[0]))[:5]}"


def _range(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    known = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known.add_argument("--seeds", type=_range, default=range(KILLED + STOPPED), metavar="A..B", help="the first and the last; else all")
    known.add_argument("--at-once", type=int, default=os.cpu_count() or 1, metavar="N", help="so many side by side; else one a processor")
    asked = known.parse_args()
    folder = ROOT / ".seeds"
    passed = Passed(folder, state_of_code())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    ground = Ground(folder)
    try:
        return run(asked.seeds, passed, ground.attempt, at_once=asked.at_once, spent=ground.spent)
    finally:
        ground.close()


if __name__ == "__main__":
    sys.exit(main())
