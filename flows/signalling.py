"""Signals: what events of a batch say to the rules, read under the rules of a revision, for the one owner of their group."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from headwater.agents.detect import Detector
from headwater.agents.signals import Batch as Signals
from headwater.flows.gateway import AHEAD, too_far_ahead
from headwater.flows.rulebook import Rulebook, Word, book_of, watching
from headwater.flows.selecting import hinted
from headwater.flows.steps import Work, bury_all
from headwater.lineage.errors import Terminal
from headwater.lineage.event import Position
from headwater.lineage.record import Record, outcomes

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime


@dataclass(slots=True)
class Signalled:
    """What one source batch says to the rules of a revision; `records` of what was read, and of what did not get as far as the rules."""

    signals: Signals
    partition: int
    next: int
    records: list[Record]
    revision: int = 0


class Turned(NamedTuple):
    """A worker reads under this revision from here on, and tells a group so: behind it comes nothing that was read under an earlier one."""

    group: str
    revision: int


def signal_step(
    run: "Runtime", known: dict[str, Detector] | Rulebook, ahead: int = AHEAD
) -> Callable[[list[Work | Word]], list[tuple[str, Signalled | Turned]]]:
    """Work → signals, keyed by the group of their topic: one owner for each group's rules. A word of a revision → `Turned`, to each.

    What fails before the rules see it (decode, enrich) on a topic that is indexed too, `index` buries; here only its outcome is told.
    What fails here (RuleFailed, Invalid), or what `index` will try again, nobody else buries: it is always buried here.

    One event must not silence all others of its partition by making them late. So while the wall clock has a say (`run.idle`) an event more
    than `ahead` µs beyond it fails, and time marks end as `passed`, unheeded: only a replay sends them, and only a replay needs them.
    """
    elsewhere = frozenset(run.app.indexed) if run.indexes else frozenset()
    book = book_of(known)

    def step(work: list[Work | Word]) -> list[tuple[str, Signalled | Turned]]:
        found: list[tuple[str, Signalled | Turned]] = []
        for each in work:
            now = run.clock()
            if isinstance(each, Word):
                book.hear(each, now)
                if each.revision:
                    found += [(name, Turned(name, each.revision)) for name in book.at(each.revision)]
                continue
            topic, revision = each.batch.topic, book.revision
            # What may pass is tried again by `index`, where order does no harm; the rules go on without it, and say so.
            shared = [failure for failure in each.failures if isinstance(failure.error, Terminal)]
            alone = [failure for failure in each.failures if not isinstance(failure.error, Terminal)]
            before = len(each.failures)
            unheeded = _unheeded(each, now, ahead) if run.idle else []
            detector = watching(book.at(revision), topic)
            signals = hinted(detector.signals(each.received, topic), each.unwanted, now + ahead if run.idle else None)
            each.fail(signals.failures)
            records = each.batch.records("detect", now)
            records += bury_all("detect", shared, run.writer, now, own=topic not in elsewhere)
            alone += each.failures[before:]
            records += bury_all("detect", alone, run.writer, now, own=True, apart=topic in elsewhere)
            ended = [*((f.position, "dead_lettered") for f in each.failures), *((position, "passed") for position in unheeded)]
            records += outcomes("detect", sorted(ended), now)
            found.append(
                (detector.name, Signalled(signals._replace(failures=[]), each.batch.partition, each.batch.next, records, revision))
            )
        return found

    return step


def _unheeded(work: Work, now: int, ahead: int) -> list[Position]:
    """Take time marks out of live work, and fail what lies too far ahead of the clock. Gives the positions of the marks."""
    marks = [received.position for received in work.received if received.is_mark]
    if marks:
        work.received = [received for received in work.received if not received.is_mark]
    work.fail([(r, error) for r in work.received if (error := too_far_ahead(r.event, now, ahead)) is not None])
    return marks
