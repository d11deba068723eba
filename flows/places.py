"""Where the entries of one journal lie: of each decision its `decided`, and how many entries lie where."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

from headwater.agents.journal import Decided, Entry

LOOK_BACK = 20_000
"""Entries, and offsets: an activation that comes a second time (its flow was killed between two snapshots) is known within this distance,
the nearer of the two."""


class Places:
    """The places that one owner has read and written, from offset `since` on. One thread notes them, another asks."""

    def __init__(self, since: int) -> None:
        self.end = since
        self._since = since
        self._decided: dict[str, int] = {}
        self._lies: list[tuple[int, int]] = []
        """(offset, entries up to there and with it) of each message, in order."""
        self._many = 0

    def note(self, entries: Sequence[Entry], offset: int) -> None:
        """A message with these entries lies there."""
        self.end = max(self.end, offset + 1)
        self._many += len(entries)
        self._lies.append((offset, self._many))
        for entry in entries:
            if isinstance(entry, Decided):
                self._decided.setdefault(entry.id, offset)

    def of(self, decision: str) -> int:
        """The offset of the message with the `decided` of a decision that is not forgotten."""
        return self._decided[decision]

    def forget(self, decision: str) -> None:
        """No later owner asks for it."""
        self._decided.pop(decision, None)

    def since(self, decisions: Iterable[str]) -> int:
        """From where a next owner must read to know these decisions, all later ones, and enough earlier ones to tell a duplicate."""
        oldest = min((self._decided[d] for d in list(decisions) if d in self._decided), default=self.end)
        lies = self._lies
        before = bisect_left(lies, oldest, key=itemgetter(0))
        many = lies[before - 1][1] - LOOK_BACK if before else 0
        if many > 0:  # what lies further back is of no use any more
            del lies[: bisect_right(lies, many, key=itemgetter(1))]
            self._since = lies[0][0]
        return max(self._since, oldest - LOOK_BACK)
