"""Spread: what became of a position on the retry ladder, told to the process that reads the position's topic.

The ladder is read by one process of `index`, the topics by several, and each tells the progress of its own partitions. The engine has no
broadcast; a keyed step that gets everything under many keys has an instance in every process.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.dataflow import Stream
from bytewax.operators import StatefulBatchLogic

from headwater.flows.steps import Told, Upserted, tell

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

KEYS = tuple(str(number) for number in range(128))
"""With as many keys every one of a few workers owns some; each word is small, and only a cluster says any."""


def spread_told(upserted: Stream[Upserted], run: "Runtime") -> None:
    """Let every process hear what the others' steps have to tell. In one process nothing goes this way."""
    keyed = op.flat_map("tell", upserted, lambda each: [(key, told) for told in each.told for key in KEYS])
    op.stateful_batch("hear", keyed, lambda resume: HearLogic(run))


class HearLogic(StatefulBatchLogic[Told, None, None]):
    """Tells progress what concerns this process, and keeps nothing."""

    def __init__(self, run: "Runtime") -> None:
        self._run = run

    def on_batch(self, values: list[Told]) -> tuple[Iterable[None], bool]:
        mine = [told for told in values if self._run.progress.reads(told.position)]
        for told in mine:
            tell(self._run.progress, told)
        if mine:
            self._run.save_progress()
        return ([], StatefulBatchLogic.DISCARD)

    def snapshot(self) -> None:
        return None
