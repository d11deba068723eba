"""A query: one search's words and wishes, checked when it is made. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headwater.enrichers.condition import Where, whole
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused

Mode = Literal["hybrid", "dense", "sparse"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "sparse")
DOCUMENT = "document"

LARGEST_LIMIT = 1_000
LONGEST_TEXT = 100_000
MOST_NEIGHBOURS = 20
MOST_PER_DOCUMENT = 100


@dataclass(frozen=True)
class Query:
    """What is looked for, and how. Raises Misused for what makes no sense.

    limit         at most so many chunks; grouped by document: so many documents
    where         field → a value, a list of values of which one must match, or a range (`condition`)
    types         document types to look among; none: all
    mode          by meaning and by words ("hybrid"), by meaning alone ("dense"), by words alone ("sparse")
    recency       half-life in event time, such as "6h": a chunk so much older counts half; None: age does not matter
    rerank        whether the application's reranker has the last word; None: if there is one
    group_by      "document": the best `per_document` chunks of each document, side by side, the best document first
    neighbours    so many chunks before and after each hit, of the same version
    """

    text: str
    limit: int = 10
    where: Where | None = None
    types: Sequence[str] = ()
    mode: str = "hybrid"
    recency: str | None = None
    rerank: bool | None = None
    group_by: str | None = None
    per_document: int = 1
    neighbours: int = 0

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise Misused("the text to search for is empty")
        if len(self.text) > LONGEST_TEXT:
            raise Misused(f"the text to search for has {len(self.text):,} characters; at most {LONGEST_TEXT:,} are allowed")
        whole("the text to search for", self.text)
        _within("limit", self.limit, 1, LARGEST_LIMIT)
        _within("per_document", self.per_document, 1, MOST_PER_DOCUMENT)
        _within("neighbours", self.neighbours, 0, MOST_NEIGHBOURS)
        if self.mode not in MODES:
            raise Misused(f"mode={self.mode!r} is none of {', '.join(MODES)}")
        if self.group_by not in (None, DOCUMENT):
            raise Misused(f"group_by={self.group_by!r}: results can be grouped by {DOCUMENT!r} only")
        if self.per_document > 1 and not self.grouped:
            raise Misused(f'per_document={self.per_document} needs group_by="{DOCUMENT}"')
        if self.recency is not None and duration(self.recency) <= 0:
            raise Misused(f"recency={self.recency!r}: a half-life must be longer than nothing")

    @property
    def grouped(self) -> bool:
        return self.group_by == DOCUMENT

    def decay(self, age_us: int) -> float:
        """The natural logarithm of what a chunk's score is multiplied with for its age; what is of the future counts as new."""
        return 0.0 if self.recency is None else -max(0, age_us) / duration(self.recency) * math.log(2)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise Misused(f"{name}={value} must lie between {least} and {most}")
