"""bounded: an answer that fits into a model's window, with a note of everything that was cut."""

from typing import Any, NamedTuple

LONGEST = 4_000
"""Characters of one text."""
MOST = 200
"""Entries of one list."""
ALL = 60_000
"""Characters of all texts together."""
SHORT = 200
"""Texts up to this length are never cut: ids, names, tokens."""


class Bounded(NamedTuple):
    """The value as far as it fits, and what does not, in words."""

    value: Any
    notes: list[str]


def bounded(value: Any, *, longest: int = LONGEST, most: int = MOST, all: int = ALL) -> Bounded:
    """A JSON value with long texts cut, long lists shortened, and nothing but short texts once `all` characters are spent."""
    room = _Room(longest, most, all)
    kept = room.fit(value)
    notes = []
    if room.texts:
        notes.append(f"{room.texts} long texts are cut, {room.characters:,} characters are not shown; ask for one thing alone")
    if room.entries:
        notes.append(f"{room.entries:,} entries of lists are not shown; ask for less, or for the things one by one")
    return Bounded(kept, notes)


class _Room:
    def __init__(self, longest: int, most: int, all: int) -> None:
        self._longest, self._most, self._left = longest, most, all
        self.texts = self.characters = self.entries = 0

    def fit(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (list, tuple)):
            return self._list(value)
        if isinstance(value, dict):
            self._left -= 2 * len(value)
            return {key: self.fit(each) for key, each in value.items()}
        self._left -= 4
        return value

    def _text(self, text: str) -> str:
        room = max(SHORT, min(self._longest, self._left))
        if len(text) <= room:
            self._left -= len(text)
            return text
        self._left -= room
        self.texts += 1
        self.characters += len(text) - room
        return f"{text[:room]}… [{len(text) - room:,} characters more]"

    def _list(self, values: list[Any] | tuple[Any, ...]) -> list[Any]:
        kept: list[Any] = []
        for value in values[: self._most]:
            if self._left <= 0 and kept:
                break
            kept.append(self.fit(value))
        self.entries += len(values) - len(kept)
        return kept
