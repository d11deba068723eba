"""`headwater index check`: the truth derived from the topics, compared with the index; `--repair` mends what is found.

Read is what the flow has indexed; what it has not come to yet is no drift. While it runs, what looks wrong is looked at once more.
"""

import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec

from headwater.enrichers import fingerprint as prints
from headwater.enrichers.drift import Finding, examine, mend, orphaned, orphans
from headwater.enrichers.engine import State
from headwater.enrichers.said import Said
from headwater.enrichers.truth import Truth
from headwater.flows.deadletter import dead_letter_id
from headwater.flows.rebuild import Place, Step
from headwater.flows.reread import PIECE, dead_letters, reread
from headwater.flows.runtime import Runtime
from headwater.lineage.duration import duration
from headwater.lineage.errors import Conflict, HeadwaterError
from headwater.lineage.event import Position

AGAIN_S = 0.5
"""How long what is on its way gets before what looks wrong is looked at again."""

MOST = 10_000
"""Findings that are named and mended; an index with more of them is to be rebuilt."""

MENDED_AT_ONCE = 500


class Checked(msgspec.Struct, frozen=True):
    """What a check found.

    documents  compared with their events;  unsure  not compared: an event about them is a dead letter or waits to be tried again
    refused    events that the application refuses now: nothing is known of what they say
    findings   what is wrong, at most `MOST`;  more  whether there are others
    left       what is still wrong after a repair
    """

    documents: int
    points: int
    unsure: int
    refused: int
    findings: list[Finding]
    more: bool = False
    repaired: bool = False
    left: list[Finding] = []

    @property
    def ok(self) -> bool:
        return not (self.left if self.repaired else self.findings) and not self.more


def check(run: Runtime, *, repair: bool = False) -> Generator[Step, None, Checked]:
    """Compare, and mend if asked to. Raises Conflict where the index is of another making, or something else goes through it."""
    with run.rebuild.alone(), tempfile.TemporaryDirectory(prefix="headwater-check-") as folder:
        known = prints.stored(run.index)
        if known is not None and (since := run.fingerprint.since(known)):
            raise Conflict(f"the index is of another making ({'; '.join(since.values())}); make it anew with: headwater index rebuild")
        truth = Truth(Path(folder) / "truth", duration(run.settings.index_history))
        try:
            return (yield from _Check(run, truth).steps(repair))
        finally:
            truth.close()


class _Check:
    def __init__(self, run: Runtime, truth: Truth) -> None:
        self._run, self._truth = run, truth
        self._ranges: dict[Place, tuple[int, int]] = run.rebuild.ranges()
        self._refused: set[Position] = set()
        self._indexer = run.new_indexer(run.index)

    def steps(self, repair: bool) -> Generator[Step, None, Checked]:
        yield from self._learn()
        findings, loose, points = yield from self._compare()
        more = len(findings) > MOST
        findings = findings[:MOST]
        documents, unsure = self._truth.count()
        found = Checked(documents - unsure, points, unsure, len(self._refused), findings, more)
        if not repair or not findings:
            return found
        if more:
            raise Conflict(f"more than {MOST:,} things are wrong: that is no drift; make the index anew with: headwater index rebuild")
        yield from self._mend(findings, loose)
        return msgspec.structs.replace(found, repaired=True, left=self._again(findings, loose))

    def _learn(self) -> Generator[Step, None, None]:
        """Read the topics. Of what did not end in the index, only the documents it speaks of are noted."""
        dead = dead_letters(self._run)
        moved = {(row.topic, row.partition, offset) for row in self._run.progress.rows() for offset in row.moved}
        whole, done = sum(until - low for low, until in self._ranges.values()), 0
        for (topic, partition), (low, until) in self._ranges.items():
            yield Step(done, whole, f"{topic}/{partition}")
            for piece in reread(self._run, topic, partition, low, until):
                self._refused.update(position for position, _ in piece.refused)
                for one in piece.received:
                    try:
                        changes = [] if one.is_mark else self._indexer.changes(one)
                    except HeadwaterError:
                        self._refused.add(one.position)
                        continue
                    unsure = one.position[1:] in moved or dead_letter_id(one.position) in dead
                    self._truth.learn(changes, unsure=unsure)
                done += piece.read
                self._run.rebuild.go_on()
                yield Step(done, whole, f"{topic}/{partition}")

    def _compare(self) -> Generator[Step, None, tuple[list[Finding], dict[str, list[str]], int]]:
        index, found = self._run.index, list[Finding]()
        for page in self._truth.pages(PIECE):
            found += examine(index, page, self._truth.heads(page), self._told)
            yield Step(0, 0, "documents")
        cursor: str | None = None
        while True:
            heads, cursor = index.heads_from(cursor, PIECE)
            documents = [head.document for head in heads if head.type in self._run.fingerprint.kinds]
            known = self._truth.heads(documents)
            found += examine(index, [document for document in documents if document not in known], {}, self._told)
            yield Step(0, 0, "heads")
            if cursor is None or len(found) > MOST:
                break
        loose, points = yield from self._loose()
        found += orphaned(loose)
        if not found or len(found) > MOST:
            return found, {}, points
        time.sleep(AGAIN_S)
        by_document: dict[str, list[str]] = {}
        for state in loose:
            by_document.setdefault(state.point.document, []).append(state.id)
        return self._again(found, by_document), by_document, points

    def _loose(self) -> Generator[Step, None, tuple[list[State], int]]:
        cursor, found, points = None, list[State](), 0
        while True:
            states, cursor = self._run.index.states_from(cursor, PIECE)
            found += orphans(self._run.index, states)
            points += len(states)
            self._run.rebuild.go_on()
            yield Step(0, 0, "points")
            if cursor is None or len(found) > MOST:
                return found, points

    def _again(self, findings: Sequence[Finding], loose: dict[str, list[str]]) -> list[Finding]:
        """The same documents looked at once more."""
        index, found = self._run.index, list[Finding]()
        documents = list(dict.fromkeys(finding.document for finding in findings))
        for start in range(0, len(documents), PIECE):
            piece = documents[start : start + PIECE]
            found += examine(index, piece, self._truth.heads(piece), self._told)
            states = index.states([id for document in piece for id in loose.get(document, ())])
            found += orphaned(orphans(index, list(states.values())))
        return found

    def _told(self, position: Position) -> bool:
        """Whether the event at a position was read and understood."""
        low, until = self._ranges.get((position.topic, position.partition), (0, 0))
        return position.broker == self._run.broker and low <= position.offset < until and position not in self._refused

    def _mend(self, findings: Sequence[Finding], loose: dict[str, list[str]]) -> Generator[Step, None, None]:
        extra = {finding.document for finding in findings if finding.kind == "extra"}
        documents = list(dict.fromkeys(finding.document for finding in findings))
        history = duration(self._run.settings.index_history)
        for start in range(0, len(documents), MENDED_AT_ONCE):
            piece = documents[start : start + MENDED_AT_ONCE]
            unsure = {document for document, head in self._truth.heads(piece).items() if head is None}
            said = self._said(set(piece) - unsure)
            for number, document in enumerate(piece, start):
                with self._run.indexing.held():
                    mend(
                        self._run.index, self._indexer, document, said.get(document, []), loose.get(document, []), self._told, history,
                        extra=document in extra,
                    )  # fmt: skip
                yield Step(number + 1, len(documents), "mended")

    def _said(self, documents: set[str]) -> dict[str, list[Said]]:
        """All that the events say of some documents."""
        found: dict[str, list[Said]] = {}
        for (topic, partition), (low, until) in self._ranges.items():
            for piece in reread(self._run, topic, partition, low, until):
                for one in piece.received:
                    if one.is_mark or one.position in self._refused:
                        continue
                    for change in self._indexer.changes(one):
                        if change.document in documents:
                            found.setdefault(change.document, []).append(Said(one, change))
        return found
