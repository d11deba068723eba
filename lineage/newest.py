"""newest: the versions of documents now, to hold against those that an agent was shown."""

from collections.abc import Iterable, Sequence

from headwater.lineage.names import Connection, naming
from headwater.lineage.near import near
from headwater.lineage.seen import DecisionSeen

MOST = 2_000
"""Records of the documents asked for that are looked at, the newest first; what is written more often is told of as far as they go."""

_QUERY = """
    SELECT ref, max(CAST(data ->> '$.version' AS BIGINT)) FROM records
    WHERE {where} AND kind = 'document' AND outcome IN ('indexed', 'unchanged', 'deleted', '') GROUP BY ref
"""


def newest_of(cursor: Connection, decisions: Iterable[DecisionSeen]) -> dict[str, int]:
    """Document → the newest version of it that reached the index, for every document that these decisions were shown a chunk of."""
    return newest_versions(cursor, shown_to(decisions))


def shown_to(decisions: Iterable[DecisionSeen]) -> list[str]:
    """The documents that these decisions were shown a chunk of."""
    return sorted({chunk.document for decision in decisions for retrieval in decision.retrievals for chunk in retrieval.results})


def newest_versions(cursor: Connection, documents: Sequence[str]) -> dict[str, int]:
    """The same of documents by name."""
    if not documents:
        return {}
    arms = [_QUERY.format(where=where) for where in near("seq", naming(cursor, documents)[-MOST:])]
    found = cursor.execute(" UNION ALL ".join(arms)).fetchall() if arms else []
    wanted = frozenset(documents)
    return {ref: version for ref, version in sorted(found) if ref in wanted and version is not None}
