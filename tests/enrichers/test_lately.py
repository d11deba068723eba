"""What is remembered of a store is never older than the store, and searches and writes take turns."""

import itertools
import threading

import pytest

from headwater.enrichers.lately import Lately
from headwater.enrichers.turns import Turns


def interleavings(*sides):
    """Every order in which the steps of all sides can happen, each side's own in turn."""
    if not any(sides):
        yield ()
    for n, side in enumerate(sides):
        if side:
            rest = (*sides[:n], side[1:], *sides[n + 1 :])
            yield from ((side[0], *more) for more in interleavings(*rest))


READER, CHANGE = ("begin", "read", "keep"), ("enter", "write", "leave")


@pytest.mark.parametrize("sides", [(READER, READER, CHANGE), (READER, CHANGE, CHANGE)])
def test_nothing_older_than_the_store_is_remembered(sides):
    """Readers and changes in every interleaving: what is found is at no moment older than what a read would give."""
    orders = 0
    for order in interleavings(*[tuple((kind, n) for kind in steps) for n, steps in enumerate(sides)]):
        lately, stored = Lately(10), 0
        begun, read, changes = {}, {}, {}
        for kind, n in order:
            if kind == "begin":
                begun[n] = lately.begin()
            elif kind == "read":
                read[n] = {"a": lately.find("a").get("a", stored)}
            elif kind == "keep":
                lately.keep(read[n], begun[n])
            elif kind == "enter":
                changes[n] = lately.changing("a")
                changes[n].__enter__()
            elif kind == "write":
                stored += 1
            else:
                changes[n].__exit__(None, None, None)
            assert lately.find("a").get("a", stored) == stored, order
        orders += 1
    assert orders == 1_680


def test_a_change_that_fails_is_over():
    """The store may or may not have changed: nothing is remembered of it, and what is read afterwards is."""
    lately = Lately(10)
    lately.keep({"a": 1, "b": 2}, lately.begin())
    with pytest.raises(RuntimeError), lately.changing("a"):
        raise RuntimeError
    assert lately.find("ab") == {"b": 2}
    lately.keep({"a": 3}, lately.begin())
    assert lately.find("ab") == {"a": 3, "b": 2}


def test_the_least_recently_used_is_forgotten():
    """No more is kept than the bound, and what was found last stays longest."""
    lately = Lately(3)
    for n, key in enumerate("abc"):
        lately.keep({key: n + 1}, lately.begin())
    lately.find("a")
    lately.keep({"d": 4, "e": 5}, lately.begin())
    assert lately.find("abcde") == {"a": 1, "d": 4, "e": 5}


def test_searches_and_writes_take_turns():
    """Searches go together, a write alone."""
    turns, said, inside = Turns(), [], {"search": 0, "write": 0}
    lock = threading.Lock()

    def take(kind):
        for _ in range(300):
            with getattr(turns, kind)():
                with lock:
                    inside[kind] += 1
                    said.append((kind, dict(inside)))
                with lock:
                    inside[kind] -= 1

    threads = [threading.Thread(target=take, args=[kind], daemon=True) for kind in ("search", "search", "search", "write", "write")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(said) == 1_500
    assert all(not there["write"] or there == {"search": 0, "write": 1} for _, there in said)


def test_neither_side_waits_for_ever():
    """A search that came during a write is let in when it ends, though another write waits; that one goes before later searches."""
    turns, order = Turns(), []
    gates = {name: threading.Event() for name in ("first", "second", "search", "later")}
    inside = {name: threading.Event() for name in gates}

    def take(kind, name):
        with getattr(turns, kind)():
            order.append(name)
            inside[name].set()
            gates[name].wait(60)

    def start(kind, name, there):
        threading.Thread(target=take, args=[kind, name], daemon=True).start()
        for _ in itertools.takewhile(lambda _: not there(), itertools.count()):
            threading.Event().wait(0.001)

    start("write", "first", inside["first"].is_set)
    start("search", "search", lambda: turns._searches_waiting == 1)
    start("write", "second", lambda: turns._writes_waiting == 1)
    gates["first"].set()
    assert inside["search"].wait(60) and not inside["second"].is_set()
    start("search", "later", lambda: turns._searches_waiting == 1)
    gates["search"].set()
    assert inside["second"].wait(60) and not inside["later"].is_set()
    gates["second"].set()
    assert inside["later"].wait(60)
    gates["later"].set()
    assert order == ["first", "search", "second", "later"]
