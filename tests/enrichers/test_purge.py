"""Removed for good: the embedded engine's files hold no byte of what was erased, and all that stays is as it was."""

from pathlib import Path

import pytest

from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.engine import Row
from headwater.enrichers.forget import forget
from headwater.enrichers.purge import MARK

SECRET, KEPT = "quicksilver", "sunflower"
SIZE = 16


def fill(world):
    """Some documents, of which one is to be erased."""
    world.writer().index([world.said("a", n, f"rain {n} and {SECRET}", event=f"e{n}") for n in (2, 3)])
    world.writer().index([world.said(f"b{n}", 1, f"{KEPT} {n}") for n in range(20)])
    world.index.save_progress([Row("b", "t", 0, 7, 7)])
    world.index.keep("name", {"number": 2})


def told(world):
    """All that an index tells of what it holds, texts and vectors, and what a search by words and meaning finds."""
    index = world.index
    states, cursor = index.states_from(None, 1000)
    heads, following = index.heads_from(None, 1000)
    assert cursor is following is None
    points = {id: (point, vector.tolist()) for id, (point, vector) in index.points([state.id for state in states]).items()}
    sought = [(hit.document, round(hit.score, 6)) for hit in world.reader().search(f"{KEPT} 7 and rain", limit=9).results]
    return sorted(map(repr, states)), sorted(map(repr, heads)), points, index.load_progress(), index.kept("name"), index.count(), sought


def bytes_of(folder, text):
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_no_file_holds_what_was_erased_once_the_index_was_opened_again(edge_world, tmp_path):
    """The engine keeps the bytes in its log and its pages until then; whatever stays, stays as it was, and what comes is written."""
    folder = tmp_path / "index"
    fill(edge_world)
    assert forget(edge_world.index, ["note/a"]) == 2
    assert bytes_of(folder, SECRET)
    before = told(edge_world)
    opened_again(edge_world, folder)
    assert not bytes_of(tmp_path, SECRET) and bytes_of(folder, KEPT)
    assert told(edge_world) == before and not (folder / MARK).exists()
    written = edge_world.writer().index([edge_world.said("a", 3, "late"), edge_world.said("a", 9, "new")])
    assert [outcome for _, outcome in written.outcomes] == ["stale", "indexed"]
    opened_again(edge_world, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["index"] and edge_world.index.count().chunks == 21


def opened_again(world, folder):
    world.index.close()
    world.index = EdgeIndex(folder, SIZE)


@pytest.mark.parametrize("step", range(3))
def test_a_kill_at_any_step_loses_nothing(edge_world, tmp_path, monkeypatch, step):
    """Before the first renaming, between the two, before the former is removed: the next opening ends it."""
    folder = tmp_path / "index"
    fill(edge_world)
    forget(edge_world.index, ["note/a"])
    before = told(edge_world)
    edge_world.index.close()
    replace, calls = Path.replace, []

    def killed(path, target):
        calls.append(path)
        if len(calls) == step + 1:
            raise KeyboardInterrupt
        return replace(path, target)

    def removing(*_, **__):
        if calls:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr("headwater.enrichers.purge.shutil.rmtree", removing)
        with pytest.raises(KeyboardInterrupt):
            EdgeIndex(folder, SIZE)
    edge_world.index = EdgeIndex(folder, SIZE)
    assert told(edge_world) == before and not bytes_of(tmp_path, SECRET)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
