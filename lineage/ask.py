"""ask: the named questions, one list for every door: each takes ids and answers a polars frame."""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from headwater.lineage import queries
from headwater.lineage.compare import compare
from headwater.lineage.errors import Misused
from headwater.lineage.growth import growth
from headwater.lineage.history import history
from headwater.lineage.trace import trace
from headwater.lineage.verify import Source


class Question(NamedTuple):
    """One question: what it is called, of what it asks, and what it answers. `takes` names its arguments."""

    name: str
    takes: tuple[str, ...]
    about: str
    answer: Callable[..., pl.DataFrame]


QUESTIONS = {
    question.name: question
    for question in (
        Question("trace", ("ID",), "from an id the whole episode, first to last: activations, decisions, effects, what those woke", trace),
        Question("history", ("DOCUMENT",), "a document's versions: when each came, what changed, and which decisions saw it", history),
        Question("compare", ("DECISION", "DECISION"), "two decisions, field by field: what woke them, what they saw, chose, did", compare),
        Question("cost", (), "what deciding took, per agent, version and unit", queries.cost),
        Question("conservation", (), "how what was consumed ended, per flow and topic", queries.conservation),
        Question("freshness", (), "from an event's append to its document being searchable, per topic", queries.freshness_by_topic),
        Question("growth", (), "what an event and a decision add to lineage, in bytes, and in bytes of the file", growth),
    )
}


def ask(source: Source, name: str, *ids: str) -> pl.DataFrame:
    """The answer to a named question. Raises Misused (no such question, another number of ids), NotFound."""
    question = QUESTIONS.get(name)
    if question is None:
        raise Misused(f"there is no question {name!r}; there are {', '.join(QUESTIONS)}")
    if len(ids) != len(question.takes):
        wanted, usage = " and ".join(question.takes) or "no id", " ".join((name, *question.takes))
        raise Misused(f"`{name}` takes {wanted}, and was given {len(ids) or 'none'}; write: headwater ask {usage}")
    return question.answer(source, *ids)
