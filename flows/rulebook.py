"""The rules as they are now, and as they were: a changed application file changes its rules while the flow runs.

What is taken over is the rules' declarations alone. What they look at (topics, models, enrichers, documents) is read once, at the start.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from headwater.agents.columns import columns_of
from headwater.agents.detect import Detector, groups_of
from headwater.agents.machine import Rule
from headwater.agents.signals import Batch as Signals
from headwater.agents.state import declared, moved
from headwater.flows.app import reloaded
from headwater.lineage.errors import HeadwaterError, Misused
from headwater.lineage.select import together

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

_log = structlog.get_logger("headwater.rules")

LOOK_S = 1.0
"""How often the application file is looked at."""


class Rulebook:
    """Revisions of the rules, each with a detector for every group. Threads may share it: readers see a revision whole or not at all."""

    def __init__(self, known: Mapping[str, Detector]) -> None:
        self._revisions: list[dict[str, Detector]] = [dict(known)]

    @property
    def revision(self) -> int:
        return len(self._revisions) - 1

    def at(self, revision: int) -> dict[str, Detector]:
        """Group → its detector."""
        return self._revisions[revision]

    def take(self, rules: Sequence[Rule]) -> list[str]:
        """Have these rules from the next batch on; gives the names of those that are new, gone or changed.

        Raises Misused where more than rules changed: that needs a restart.
        """
        current = self._revisions[-1]
        found = {}
        for topics, members in groups_of(rules):
            name = "+".join(sorted(topic.name for topic in topics))
            if name not in current:
                raise Misused(f"rules over {name} together are new, as no rules looked at just these topics before; restart to have them")
            found[name] = _renewed(current[name], members)
        if gone := current.keys() - found.keys():
            raise Misused(f"no rule looks at {', '.join(sorted(gone))} any more; restart to have it so")
        before = {name: known for detector in current.values() for name, known in declared(detector.rules).items()}
        now = declared(rules)
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            self._revisions.append(found)
        return changed


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
    found, texts = moved(signals.signals, signals.texts, before.reads(signals.topic), now.reads(signals.topic), before.rules, now.rules)
    return signals._replace(signals=found, texts=texts)


def changes(target: str) -> Callable[[], Sequence[Rule] | None]:
    """A function that gives the rules of an application file each time it has changed since the last call, else None. Raises Misused."""
    path = Path(target.partition(":")[0])
    seen = _written(path)

    def changed() -> Sequence[Rule] | None:
        nonlocal seen
        now = _written(path)
        if now is None or now == seen:
            return None
        seen = now
        return reloaded(target).triggers

    return changed


def _written(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # an editor may put a new file in the place of the old one
    return found.st_mtime_ns, found.st_size


class RuleWatch:
    """Looks at the application file in a thread, and offers its rules to the book when it has changed.

    changed  gives the rules when the file has changed, else None; raises what is wrong with it
    """

    def __init__(self, changed: Callable[[], Sequence[Rule] | None], take: Callable[[Sequence[Rule]], list[str]]) -> None:
        self._changed, self._take = changed, take
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Once. What cannot be taken is told, and the rules stay as they are."""
        try:
            rules = self._changed()
            names = self._take(rules) if rules is not None else []
        except HeadwaterError as error:
            _log.warning("the application file changed, but its rules stay as they were", error=str(error))
            return
        if names:
            _log.warning("rules changed", rules=names)  # who saved the file wants to hear it


def follow(run: "Runtime", target: str | None) -> None:
    """Have the rules of a running `detect` follow its application file, while the runtime is open."""
    if target is None:
        return

    def take(rules: Sequence[Rule]) -> list[str]:
        return [] if run.rulebook is None else run.rulebook.take(rules)

    run.closing(RuleWatch(changes(target), take).close)
