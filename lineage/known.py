"""known: what landing must know of what the database holds, read when it is opened."""

from collections.abc import Sequence

import duckdb
import numpy as np

from headwater.lineage.landing import OPEN, Known
from headwater.lineage.ranges import Ranges

_RANGES = """
    SELECT CASE WHEN list_contains(?, outcome) THEN 'open' ELSE kind END AS lane, flow, broker, topic, "partition",
        list("first" ORDER BY "first", "next"), list("next" ORDER BY "first", "next")
    FROM records WHERE kind IN ('consumed', 'absent', 'outcome') GROUP BY ALL"""

_REACH = """
    SELECT kind, flow, broker, topic, "partition", max("first") FROM records
    WHERE "first" >= 0 AND kind NOT IN ('consumed', 'absent', 'outcome') GROUP BY ALL"""


def known_of(connection: duckdb.DuckDBPyConnection) -> Known:
    """The ranges that were told of, and the highest position that facts speak of, per lane."""
    told = connection.execute(_RANGES, [sorted(OPEN)]).fetchall()
    reach = {tuple(lane): first for *lane, first in connection.execute(_REACH).fetchall()}
    return Known({tuple(lane): _joined(firsts, followings) for *lane, firsts, followings in told}, reach)


def _joined(firsts: Sequence[int], followings: Sequence[int]) -> Ranges:
    """Ranges in the order of their beginnings, neighbours and those that overlap as one. (A window of SQL took fifty times as long.)"""
    begins, ends = np.array(firsts), np.maximum.accumulate(np.array(followings))
    apart = np.flatnonzero(begins[1:] > ends[:-1])
    starts, stops = begins[np.concatenate(([0], apart + 1))], ends[np.concatenate((apart, [len(ends) - 1]))]
    return Ranges(zip(starts.tolist(), stops.tolist(), strict=True))
