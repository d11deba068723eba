"""asked: the named questions about lineage as a tool for a model; each answer is a table, as data and as lines of text."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec
import pydantic

from headwater.enrichers.bounded import bounded
from headwater.enrichers.offer import Schema, Told, Tool
from headwater.lineage.ask import QUESTIONS, ask
from headwater.lineage.show import cell
from headwater.lineage.verify import Source

ABOUT = "A named question about what was recorded. Each answers a table:\n" + "\n".join(
    f"- `{each.name}`{''.join(f' {id}' for id in each.takes)}: {each.about}" for each in QUESTIONS.values()
)
# A test holds these equal to the questions that there are.
Name: TypeAlias = Literal["trace", "history", "compare", "cost", "conservation", "freshness", "growth"]


class Asked(pydantic.BaseModel):
    """Which question, of what."""

    model_config = pydantic.ConfigDict(extra="forbid")

    question: Name
    ids: list[str] = pydantic.Field([], max_length=2, description="what it asks of, as many as it takes; the beginning of an id will do")


def ask_tool(store: Callable[[], Source]) -> Tool:
    """`ask`, of every named question."""
    answer: dict[str, Schema] = {
        "question": {"type": "string"},
        "count": {"type": "integer", "description": "rows of the answer, those that are not shown included"},
        "rows": {"type": "array", "items": {"type": "object"}},
    }
    return Tool("ask", "Ask lineage", ABOUT, Asked, answer, lambda asked, _: answered(store(), asked))


def answered(store: Source, asked: Asked) -> Told:
    """The answer to one question. Raises Misused (another number of ids, an ambiguous beginning), NotFound."""
    frame = ask(store, asked.question, *asked.ids)
    rows, notes = bounded(msgspec.json.decode(msgspec.json.encode(frame.to_dicts(), enc_hook=str)))
    lines, more = bounded([" | ".join(frame.columns), *(_line(row) for row in frame.head(len(rows)).iter_rows())], longest=2_000)
    data = {"question": asked.question, "count": frame.height, "rows": rows, "notes": notes}
    left = [f"{frame.height - len(rows):,} rows more"] if frame.height > len(rows) else []
    return Told(data, "\n".join([*lines, *left, *(more or notes)]))


def _line(row: tuple[Any, ...]) -> str:
    return " | ".join(" ".join(cell(value).split()) for value in row)
