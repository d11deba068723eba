"""erasing: a subject out of the index, the vector cache and lineage, in this order: a kill in between leaves it to be found again."""

from collections.abc import Callable

import msgspec

from headwater.enrichers.embed import VectorCache
from headwater.enrichers.engine import Index
from headwater.enrichers.forget import forget
from headwater.lineage.duration import format_time
from headwater.lineage.erase import Plan, plan
from headwater.lineage.store import Store


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, or would be. `points` of the index; `record` names the record that tells of it, empty if nothing was done."""

    plan: Plan
    points: int = 0
    record: str = ""


def erase(
    store: Store, index: Index | None, cache: VectorCache | None, subject: str, *, by: str, why: str, clock: Callable[[], int],
    dry_run: bool,
) -> Erased:  # fmt: skip
    """Erase a subject, or tell what that would take. Raises NotFound, Unavailable."""
    found, removal = plan(store, subject, by=by, why=why, day=format_time(clock())[:10])
    if dry_run:
        return Erased(plan=found)
    points = forget(index, found.documents) if index is not None else 0
    if cache is not None:
        cache.clear()
    record = "" if removal.empty and not points else store.remove(removal).id
    return Erased(plan=found, points=points, record=record)
