"""Ranks: the two halves of a search, fused; then what a reranker says, what age takes away, and the groups of documents. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import repeat
from typing import NamedTuple

from headwater.enrichers.engine import Found

RANK_CONSTANT = 10
MEANING, WORDS = 1.0, 3.0
"""What the halves of a search weigh. These three were chosen on the tuning half of `headwater bench quality`: documents made of records
are told apart by names and numbers first, which words find and meanings do not."""
NEAR = 1e-9
"""Sums of shares in another order differ by less."""
WIDER = 8
"""Where too few were fetched many share a score, as texts made of records do."""
WIDEST = 4_096
"""A group of equal scores that does not fit tells nothing apart and is left out."""

Groups = list[list[str]]
"""Ids in groups of equal score, best first."""


Counting = Callable[[Sequence[str]], Mapping[str, str]]
"""Of these ids, those that count, with the document of each."""


class Ranking(NamedTuple):
    """One half of a search: ids in groups of equal score, best first.

    wanting  fewer than were asked for, though there may be more
    """

    groups: Groups
    wanting: bool

    @property
    def rank(self) -> int:
        """The rank of whatever comes next."""
        return 1 + sum(map(len, self.groups))


class Need(NamedTuple):
    """How much of one half a search needs.

    width   so many at least that count, if there are
    others  what else the search found, if nothing is asked but its best, a quarter of the width at most: of more than twice the width that
            share a score only these and the first by id can be among them
    """

    width: int
    documents: int = 1
    others: AbstractSet[str] | None = None


def ranking(found: Sequence[Found], limit: int, counting: Counting, need: Need) -> Ranking:
    """Of what was found with this limit as much as is needed.

    A group is whole or absent, never cut where the engine happened to stop: so the answer rests on content alone.
    """
    groups, enough = _counted(_whole(found, all_there=len(found) < limit), counting, need)
    return Ranking(groups, not enough and limit <= len(found) and limit < WIDEST)


def widened(first: Ranking, limit: int, fetch: Callable[[int], list[Found]], counting: Counting, need: Need) -> Ranking:
    """A ranking of enough, if there are: as many are fetched as that takes."""
    widest = first
    while widest.wanting:
        limit = min(WIDER * limit, WIDEST)
        widest = ranking(fetch(limit), limit, counting, need)
    return widest


def settled(rankings: Sequence[Ranking], weights: Sequence[float], limit: int) -> bool:
    """Whether the best `limit` of all are what they are, with their scores, whatever else the rankings that want more would hold.

    So it is if each of the best is in each of those, and who is missing in one does not come up to the last of them even as the next there.
    """
    wanting = [
        ({id for ids in one.groups for id in ids}, weight / (RANK_CONSTANT + one.rank))
        for one, weight in zip(rankings, weights, strict=True)
        if one.wanting
    ]
    if not wanting:
        return True
    fused = fuse([one.groups for one in rankings], weights=weights)
    if len(fused) < limit or any(id not in known for id, _ in fused[:limit] for known, _ in wanting):
        return False
    # Whoever is in none of them comes after each of the best in all of them.
    missing = [(id, score) for id, score in fused[limit:] if any(id not in known for known, _ in wanting)]
    last = fused[limit - 1][1]
    return all(score + sum(gain for known, gain in wanting if id not in known) < last - NEAR for id, score in missing)


def _whole(found: Sequence[Found], *, all_there: bool) -> list[list[Found]]:
    """Groups of equal score, best first. If more may share the last score its group is not known to be whole, and left out."""
    scores: dict[float, list[Found]] = {}
    for one in found:
        scores.setdefault(rounded(one.score), []).append(one)
    ordered = [scores[score] for score in sorted(scores, reverse=True)]
    return ordered if all_there else ordered[:-1]


def _counted(groups: Sequence[list[Found]], counting: Counting, need: Need) -> tuple[Groups, bool]:
    """What counts of the groups, and whether that is enough. No more is looked at than has to be: each hit's head must be read."""
    kept: Groups = []
    count, seen, start, width = 0, set[str](), 0, need.width
    while start < len(groups):
        end, many, wanted = start, count, width if count < width else count + width
        while end < len(groups) and many < wanted:
            many += len(groups[end])
            end += 1
        run = [sorted(one.id for one in group) for group in groups[start:end]]
        parts = [_part(ids, need) for ids in run]
        there = counting([id for part in parts for id in part])
        for ids, part in zip(run, parts, strict=True):
            alive = [id for id in part if id in there]
            if len(part) < len(ids) and len(alive) < len(part) - width:  # of the first by id fewer than the width may count
                there = {**there, **counting(ids)}
                alive = [id for id in ids if id in there]
            if alive:
                kept.append(alive)
                count += len(alive)
                seen.update(there[id] for id in alive)
            if count >= width and len(seen) >= need.documents:
                return kept, True
        start = end
    return kept, False


def _part(ids: list[str], need: Need) -> list[str]:
    """Those of a group that must be looked at."""
    first = 2 * need.width
    if need.others is None or len(ids) <= first:
        return ids
    return ids[:first] + [id for id in ids[first:] if id in need.others]


def rounded(score: float) -> float:
    """Engines add up in an order of their own; what differs by less than this is equal."""
    return round(score, 5)


def fuse(halves: Sequence[Groups], limit: int | None = None, weights: Sequence[float] = ()) -> list[tuple[str, float]]:
    """Reciprocal rank fusion: (id, score), best first, equal scores by id. Equal scores in a half share a rank."""
    scores: dict[str, float] = {}
    for groups, weight in zip(halves, weights or repeat(1.0), strict=False):
        rank = 1
        for ids in groups:
            for id in ids:
                scores[id] = scores.get(id, 0.0) + weight / (RANK_CONSTANT + rank)
            rank += len(ids)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:limit]


def reordered(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    """The order of other scores, as a fusion of it alone would have it: what is decided by ranks stays comparable."""
    groups: dict[float, list[str]] = {}
    for id, score in scores.items():
        groups.setdefault(rounded(score), []).append(id)
    return fuse([[ids for _, ids in sorted(groups.items(), reverse=True)]])


def decayed(fused: Sequence[tuple[str, float]], decay: Callable[[str], float]) -> list[tuple[str, float]]:
    """Scores after age took its part; `decay` gives the logarithm of the factor. Ordered in logarithms, so that of what is all very
    old the newer still comes first, though the scores themselves are too small to tell apart."""
    weighed = [(math.log(score) + decay(id), id) for id, score in fused]
    return [(id, math.exp(weight)) for weight, id in sorted(weighed, key=lambda pair: (-pair[0], pair[1]))]


def grouped(fused: Sequence[tuple[str, float]], document: Mapping[str, str], limit: int, per_document: int) -> list[tuple[str, float]]:
    """The best `per_document` of each document side by side, at most `limit` documents, the one with the best chunk first."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for id, score in fused:
        name = document[id]
        if name not in groups and len(groups) == limit:
            continue
        if len(group := groups.setdefault(name, [])) < per_document:
            group.append((id, score))
    return [pair for group in groups.values() for pair in group]
