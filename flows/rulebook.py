"""The rules as they are now, and as they were: a changed application file changes its rules while the flow runs.

What is taken over is the rules' declarations alone. What they look at (topics, models, enrichers, documents) is read once, at the start.
"""

from collections.abc import Mapping, Sequence

from headwater.agents.columns import columns_of
from headwater.agents.detect import Detector, groups_of
from headwater.agents.machine import Rule
from headwater.agents.signals import Batch as Signals
from headwater.agents.state import moved
from headwater.lineage.errors import Misused
from headwater.lineage.select import together


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
        before = {name: known for detector in current.values() for name, known in detector.declared.items()}
        now = {name: known for detector in found.values() for name, known in detector.declared.items()}
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
    reads = before.reads(signals.topic), now.reads(signals.topic)
    found, texts = moved(signals.signals, signals.texts, *reads, before.declared, now.declared)
    return signals._replace(signals=found, texts=texts)
