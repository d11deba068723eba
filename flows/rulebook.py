"""The rules as they are now, and as they were: a changed application file changes its rules while the flow runs.

What is taken over is the rules' declarations alone. What they look at (topics, models, enrichers, documents) is read once, at the start.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from headwater.agents.columns import columns_of
from headwater.agents.detect import Detector, groups_of
from headwater.agents.machine import Rule
from headwater.agents.signals import Batch as Signals
from headwater.agents.state import moved
from headwater.lineage.errors import Misused
from headwater.lineage.select import together

_log = structlog.get_logger("headwater.rules")

AGREE_S = 60
"""How long processes that start wait for all to have the same rules."""

REMIND_S = 10, 60
"""After how long it is told that processes have different rules, and how often then."""

KEPT = 3
"""Revisions that are remembered: what was read under the one before is still on its way."""


class Known(NamedTuple):
    """What the rules of a process say now; `number` counts what it has told."""

    process: int
    digest: str
    number: int


class Word(NamedTuple):
    """What all workers hear when a process has told what it knows. `told` counts them; `revision` is what begins with it, 0: none."""

    told: int
    revision: int
    digest: str
    known: Mapping[int, Known]


class Rulebook:
    """Revisions of the rules, each with a detector for every group. Threads may share it: readers see a revision whole or not at all.

    process, processes  which process of how many run the flow. Of several each must have the same rules before anything is read
    """

    def __init__(self, known: Mapping[str, Detector], process: int = 0, processes: int = 1) -> None:
        self._lock = threading.Lock()
        self._revisions: dict[int, dict[str, Detector]] = {0: dict(known)}
        self._process, self._processes = process, processes
        self._newest = digest_of(known)
        self._offered = {self._newest: self._revisions[0]}
        self._untold = processes > 1
        self._number = 0
        self._word = Word(0, 0, "", {})
        self._differ: int | None = None
        self._reminded = 0

    @property
    def revision(self) -> int:
        return max(self._revisions)

    @property
    def agreed(self) -> bool:
        """Whether all processes have the same rules, those of the present revision; else nothing may be read yet."""
        return self._processes == 1 or self.revision > 0

    def at(self, revision: int) -> dict[str, Detector]:
        """Group → its detector."""
        return self._revisions[revision]

    def offer(self, rules: Sequence[Rule]) -> list[str]:
        """Have these rules once all processes have them: they are told, and come into force by a word. Gives no names for now.

        Raises Misused where more than rules changed: that needs a restart.
        """
        found = self._read_by(rules)
        digest = digest_of(found)
        with self._lock:
            if digest != self._newest:
                self._newest, self._untold = digest, True
                self._offered.setdefault(digest, found)
        return []

    def take(self, rules: Sequence[Rule]) -> list[str]:
        """Have these rules from the next batch on, whatever others have; gives the names of those that are new, gone or changed.

        Raises as `offer` does.
        """
        found = self._read_by(rules)
        changed = _changed(self.at(self.revision), found)
        if changed:
            self._turn(self.revision + 1, found)
        return changed

    def to_tell(self, now: int) -> list[Known]:
        """What the other processes have not been told yet. Raises Misused: they have had other rules since the start, for too long."""
        if self._differ is not None and not self.agreed and now - self._differ > AGREE_S * 1_000_000:
            raise Misused(f"the processes of detect have different rules: {self._told}; start all with the same application")
        if not self._untold:
            return []
        with self._lock:
            told, self._untold = self._untold, False
            self._differ = now if self._differ is None and not self.agreed else self._differ
            if not told:
                return []
            self._number += 1
            return [Known(self._process, self._newest, self._number)]

    def hear(self, word: Word, now: int) -> None:
        """What a worker of this process heard; each of them hears it."""
        with self._lock:
            if word.told <= self._word.told:
                return
            self._word = word
            if word.revision and (names := self._turn(word.revision, self._offered[word.digest])):
                _log.warning("rules changed", rules=names)  # who saved the file wants to hear it
            ours = word.known.get(self._process)
            if ours is not None and ours.number == self._number and not self._untold:  # of what was told before no word can be on its way
                self._offered = {digest: found for digest, found in self._offered.items() if digest == self._newest}
            same = len({known.digest for known in word.known.values()}) == 1 and len(word.known) == self._processes
            self._differ = None if same else now if self._differ is None else self._differ
            self._reminded = 0 if same else self._reminded

    def remind(self, now: int) -> None:
        """Say, where processes have had different rules for some time, which have which: those of before stay until all have the same."""
        since = self._differ
        after = (REMIND_S[0] + self._reminded * REMIND_S[1]) * 1_000_000
        if since is not None and now - since > after:
            self._reminded += 1
            _log.warning("processes have different rules; those of before stay until all have the same", processes=self._told)

    @property
    def _told(self) -> str:
        known = self._word.known
        return ", ".join(f"process {n}: {known[n].digest if n in known else 'nothing yet'}" for n in range(self._processes))

    def _turn(self, revision: int, found: dict[str, Detector]) -> list[str]:
        """Begin a revision; gives the names of rules that are new, gone or changed with it."""
        changed = _changed(self.at(self.revision), found)
        self._revisions = {**{n: old for n, old in self._revisions.items() if n > revision - KEPT}, revision: found}
        return changed

    def _read_by(self, rules: Sequence[Rule]) -> dict[str, Detector]:
        """A detector for every group, those of today where nothing changed."""
        current = self.at(self.revision)
        found = {}
        for topics, members in groups_of(rules):
            name = "+".join(sorted(topic.name for topic in topics))
            if name not in current:
                raise Misused(f"rules over {name} together are new, as no rules looked at just these topics before; restart to have them")
            renewed = _renewed(current[name], members)
            found[name] = renewed if _said(renewed) != _said(current[name]) else current[name]
        if gone := current.keys() - found.keys():
            raise Misused(f"no rule looks at {', '.join(sorted(gone))} any more; restart to have it so")
        return found


def _said(detector: Detector) -> list[tuple[str, tuple[str, ...]]]:
    """Rules in their order, each with all that it says."""
    return [(rule, tuple(known)) for rule, known in detector.declared.items()]


def _changed(former: Mapping[str, Detector], present: Mapping[str, Detector]) -> list[str]:
    before, now = ({name: said for detector in known.values() for name, said in _said(detector)} for known in (former, present))
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def digest_of(known: Mapping[str, Detector]) -> str:
    """A short hash of all that the rules say, and of their order: processes with the same understand each other's signals."""
    return hashlib.sha256(repr([(name, _said(known[name])) for name in sorted(known)]).encode()).hexdigest()[:12]


def _renewed(former: Detector, rules: Sequence[Rule]) -> Detector:
    """A detector with other rules over the same topics. Raises Misused."""
    for rule in rules:
        for given in rule.inputs:
            topic = former.topics[given.topic.name]
            if columns_of(given.topic.model) != columns_of(topic.model) or given.topic.key != topic.key:
                raise Misused(f"the model or the key of topic {topic.name} changed; restart to have it, and rule {rule.name} with it")
            if given.kind is not None and rule.name not in former.by_meaning:
                raise Misused(f"rule {rule.name} asks for documents, which are read at the start; restart to have it")
    detector = Detector(list(former.topics.values()), rules, former.counts, idle=former.idle)
    for name in former.topics:
        if more := detector.facts_of(name) - former.facts_of(name):
            raise Misused(f"facts that no rule looked at before ({', '.join(sorted(more))}) are not made now; restart to have them")
        if _selected(detector, name) != _selected(former, name):
            raise Misused(f"other events of topic {name} are selected than before; restart to have them read")
    return detector


def _selected(detector: Detector, topic: str) -> frozenset[object]:
    return frozenset(together(given.select for rule in detector.rules for given in rule.inputs if given.topic.name == topic))


def reread(signals: Signals, before: Detector, now: Detector) -> Signals:
    """A batch that was read for rules of another revision, as those of today may see it: what they would read otherwise says nothing."""
    if before is now:
        return signals
    reads = before.reads(signals.topic), now.reads(signals.topic)
    found, texts = moved(signals.signals, signals.texts, *reads, before.declared, now.declared)
    return signals._replace(signals=found, texts=texts)


def book_of(known: dict[str, Detector] | Rulebook) -> Rulebook:
    """The book of rules that may change, or one of rules that do not."""
    return known if isinstance(known, Rulebook) else Rulebook(known)


def watching(known: dict[str, Detector], topic: str) -> Detector:
    """The detector that looks at a topic."""
    return next(detector for detector in known.values() if topic in detector.topics)
