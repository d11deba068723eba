"""Whether another process's `index` flow writes to the same index: it stores its progress as a heartbeat."""

import time

from headwater.flows.keeping import HEARTBEAT_S
from headwater.flows.runtime import Runtime
from headwater.lineage.errors import Conflict


def alone(run: Runtime) -> None:
    """Raises Conflict if the stored progress moves while one looks at it, which takes a second or two."""
    if not run.settings.qdrant_url:
        return  # a folder belongs to one process
    before = run.index.load_progress()
    time.sleep(3 * HEARTBEAT_S)
    if before and run.index.load_progress() != before:
        raise Conflict("an `index` flow of another process writes to this index; stop it first: readers go on meanwhile")
