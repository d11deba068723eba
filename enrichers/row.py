"""Rows: an event's model as plain values, and one of its fields."""

from typing import Any

import msgspec
import pydantic

from headwater.lineage.errors import EnricherFailed

Row = dict[str, Any]


def row_of(model: Any) -> Row:
    """Field → value, of a pydantic model or a msgspec Struct."""
    if isinstance(model, pydantic.BaseModel):
        return model.model_dump()
    return msgspec.structs.asdict(model)


def value_of(model: Any, name: str) -> Any:
    """Raises EnricherFailed if the model has no such field."""
    try:
        return getattr(model, name)
    except AttributeError:
        raise EnricherFailed(f"{type(model).__name__} has no field {name!r} to look up") from None
