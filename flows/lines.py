"""A stream of lines in pieces of bounded size, each line with its number."""

from typing import TypeAlias

from headwater.lineage.errors import Oversized

Piece: TypeAlias = list[tuple[int, bytes]]
"""(line number from 1 on, line)."""

PIECE_LINES = 2_000
PIECE_BYTES = 1_000_000


class Lines:
    """Cuts what is fed to it: a piece is full at so many lines or bytes. A line longer than `longest` bytes is refused.

    Empty lines count, and are left out.
    """

    def __init__(self, longest: int, lines: int = PIECE_LINES, size: int = PIECE_BYTES) -> None:
        self._longest, self._lines, self._size = longest, lines, size
        self._number = 0
        self._rest = b""
        self._piece: Piece = []
        self._held = 0

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that are full now. Raises Oversized."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        full = [piece for line in whole if (piece := self._add(line))]
        if len(self._rest) > self._longest:
            raise self._oversized(len(self._rest), self._number + 1)
        return full

    def end(self) -> Piece:
        """What is left; perhaps nothing."""
        rest, self._rest = self._rest, b""
        return (self._add(rest) if rest else []) or self._take()

    def _add(self, line: bytes) -> Piece:
        self._number += 1
        if len(line) > self._longest:
            raise self._oversized(len(line), self._number)
        if line.strip():
            self._piece.append((self._number, line))
            self._held += len(line)
        return self._take() if len(self._piece) >= self._lines or self._held >= self._size else []

    def _take(self) -> Piece:
        piece, self._piece, self._held = self._piece, [], 0
        return piece

    def _oversized(self, size: int, number: int) -> Oversized:
        return Oversized(f"line {number} has {size} bytes or more, and at most {self._longest} are taken", line=number)
