"""How good a ranking is, against the documents that are right. Pure."""

import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

TOP = 10


def documents(hits: Iterable[str]) -> list[str]:
    """The documents of a ranking of chunks, each at its best place, the first ten."""
    return list(dict.fromkeys(hits))[:TOP]


def ndcg(ranking: Sequence[str], right: AbstractSet[str]) -> float:
    """nDCG@10: 1 where every right document stands before every other."""
    gained = sum(1 / math.log2(place + 2) for place, document in enumerate(ranking[:TOP]) if document in right)
    most = sum(1 / math.log2(place + 2) for place in range(min(TOP, len(right))))
    return gained / most


def recall(ranking: Sequence[str], right: AbstractSet[str]) -> float:
    """recall@10: the share of the right documents among the first ten."""
    return len(set(ranking[:TOP]) & right) / min(TOP, len(right))
