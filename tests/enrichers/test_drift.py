import itertools

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient

from headwater.enrichers.document import head_id
from headwater.enrichers.drift import examine, mend, orphaned, orphans
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.engine import Embedded
from headwater.enrichers.head import Head, points_of
from headwater.enrichers.index import HISTORY_US
from headwater.enrichers.qdrant import QdrantIndex
from headwater.enrichers.said import Said
from headwater.enrichers.sparse import Sparse
from headwater.enrichers.truth import Truth

from .conftest import World

HOUR = 3_600_000_000
TEXTS = ("# A\n\none\n\n# B\n\ntwo", "snow", "# A\n\none\n\n# B\n\nthree\n\n# C\n\nfour", None)
numbers = itertools.count()


def lay_out(index):
    """Everything an index holds: heads without their revision, and points as they lie."""
    heads, _ = index.heads_from(None, 10_000)
    states, _ = index.states_from(None, 10_000)
    return (
        {head.document: (head.version, head.event, head.entries, head.hashes) for head in heads},
        {state.id: (state.point, state.live) for state in states},
    )


class Case:
    """Some documents in an index, with the truth about them, and ways to spoil one."""

    def __init__(self, world, tmp_path, histories):
        self.world, self.index, self.writer = world, world.index, world.writer()
        number = next(numbers)
        self.events = [
            world.said(f"n{number}-{d}", version, TEXTS[text])
            for d, texts in enumerate(histories) for version, text in enumerate(texts, 1)
        ]  # fmt: skip
        self.writer.index(self.events)
        self.truth = Truth(tmp_path / f"truth{number}", HISTORY_US)
        self.said = {}
        for one in self.events:
            for change in self.writer.changes(one):
                self.truth.learn([change])
                self.said.setdefault(change.document, []).append(Said(one, change))

    def told(self, position):
        return True

    def findings(self):
        heads, _ = self.index.heads_from(None, 10_000)
        documents = sorted(self.said)
        unknown = [head.document for head in heads if head.document not in self.said]
        states, _ = self.index.states_from(None, 10_000)
        self.loose = orphans(self.index, states)
        found = examine(self.index, documents, self.truth.heads(documents), self.told)
        return [*found, *examine(self.index, unknown, {}, self.told), *orphaned(self.loose)]

    def mend(self, findings):
        for finding in findings:
            document = finding.document
            spare = [state.id for state in self.loose if state.point.document == document]
            said = self.said.get(document, [])
            mend(self.index, self.writer, document, said, spare, self.told, HISTORY_US, extra=finding.kind == "extra")

    def spoil(self, kind, document):
        """Do one kind of damage; returns what a check must call it, or None if this document cannot be spoilt so."""
        head = self.index.heads([document])[document]
        live = head.current.points(document)
        old = points_of(document, head.entries[:-1])
        if kind == "head lost":
            self.index.delete([head_id(document), *points_of(document, head.entries)])
            return "missing"
        if kind == "set back" and len(head.entries) > 1:
            before = head.entries[-2]
            self.index.delete([head_id(document), *live])
            known = self.said[document][-2].change
            hashes = tuple(chunk.hash for chunk in known.chunks)
            self.index.flip([Head(document, "note", before.version, before.event, before.time, head.entries[:-1], hashes)])
            return "behind"
        if kind == "point lost" and (live or old):
            self.index.delete([(live or old)[0]])
            return "incomplete"
        if kind == "ended" and live:
            self.index.supersede({7: [live[-1]]})
            return "live"
        if kind == "ended early" and old:
            self.index.supersede({7: [old[0]]})
            return "live"
        if kind == "orphan":
            stranger = self.world.said(document.removeprefix("note/"), 90, "a stranger")
            (change,) = self.writer.changes(stranger)
            self.index.put(self.writer.points_of(Said(stranger, change)))
            return "orphan"
        if kind == "extra":
            self.writer.index([self.world.said(f"extra{next(numbers)}", 1, "nobody said so")])
            return "extra"
        if kind == "other version":
            self.writer.index([self.world.said(document.removeprefix("note/"), 80, "nobody said so")])
            return "ahead"
        if kind in ALTERED and live:
            (point, vector), *_ = self.index.points(live[:1]).values()
            self.index.delete(live[:1])
            terms = self.writer.points_of(self.said[document][0])
            other = msgspec.structs.replace(point, **ALTERED[kind])
            self.index.put([Embedded(other, vector, terms[0].sparse if terms else Sparse((), ()))])
            return "differs"
        return None


ALTERED: dict[str, dict] = {
    "other text": {"text": "x", "hash": "0" * 32}, "text under the same hash": {"text": "x"}, "section": {"section": "X"},
    "fields": {"fields": {"place": "elsewhere"}},
}  # fmt: skip
KINDS = ("head lost", "set back", "point lost", "ended", "ended early", "orphan", "extra", "other version", *ALTERED)


HISTORIES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=3), min_size=1, max_size=4)


@settings(max_examples=15)
@given(histories=HISTORIES, kind=st.sampled_from(KINDS), which=st.integers(0, 3))
def test_a_check_names_exactly_the_damage_and_mending_restores_what_was(tmp_path_factory, histories, kind, which):
    """Random damage to a random document: an undisturbed index has no findings; the damage, and it alone, is found; once mended
    the index holds what it held, to the point, and a check is clean."""
    folder = tmp_path_factory.mktemp("drift")
    checked(World(EdgeIndex(folder / "index", 16)), folder, histories, kind, which)


@settings(max_examples=25)
@given(histories=HISTORIES, kind=st.sampled_from(KINDS), which=st.integers(0, 3))
def test_the_same_by_the_interface_of_a_server(tmp_path_factory, histories, kind, which):
    """Damage is found and mended on the client's in-memory engine as on the embedded one."""
    checked(World(QdrantIndex(QdrantClient(":memory:"), "notes", 16)), tmp_path_factory.mktemp("drift"), histories, kind, which)


def checked(world, folder, histories, kind, which):
    """Spoil, check, mend, check."""
    case = Case(world, folder, histories)
    before = lay_out(case.index)
    assert case.findings() == [] and lay_out(case.index) == before
    document = sorted(case.said)[which % len(case.said)]
    expected = case.spoil(kind, document)
    if expected is not None:
        found = case.findings()
        assert [one.kind for one in found] == [expected]
        assert kind == "extra" or found[0].document == document
        case.mend(found)
    assert case.findings() == []
    assert lay_out(case.index) == before
    case.index.close()
