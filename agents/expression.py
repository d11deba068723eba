"""A polars expression told whole. Its `str` leaves out what many functions were given (`round(2)`), and the middle of a list."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import polars as pl

MARK = "|#"
"""Before the digest at the end of a rule's shape."""


def told(expression: pl.Expr) -> str:
    """All that polars knows of it, the same in every process. Of a Python function there is that it is one: its author versions it."""
    try:
        written = expression.meta.serialize(format="json")
    except (pl.exceptions.PolarsError, TypeError, ValueError):
        return str(expression)  # a Python function that holds a lock, a connection or the like cannot be written down
    return json.dumps(_nameless(json.loads(written)), sort_keys=True)


def digest(expressions: Iterable[object]) -> str:
    """A short hash of expressions; of whatever else stands among them (None, a column's name) its text."""
    parts = [told(each) if isinstance(each, pl.Expr) else repr(each) for each in expressions]
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def without_digest(shape: str) -> str:
    """A shape as releases wrote it that took the `str` of expressions."""
    return shape.rpartition(MARK)[0] or shape


def _nameless(node: Any) -> Any:
    """The tree without the bytes of Python functions: they hold line numbers and addresses, which say nothing of what it does."""
    if isinstance(node, dict):
        if isinstance(called := node.get("AnonymousFunction"), dict):
            return {"AnonymousFunction": _nameless({**called, "function": "python"})}
        return {name: _nameless(value) for name, value in node.items()}
    return [_nameless(each) for each in node] if isinstance(node, list) else node
