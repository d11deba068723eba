"""The rules' head start: after a stop they deal with what lies there before the rest of the process takes the interpreter from them."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.flows.runtime import Runtime

HEAD_START_S = 2.0
"""How long the others wait at most. The embedded index alone holds the whole interpreter for a second while it opens twenty thousand points
that a killed process left; yet what is behind at a start may take hours, and documents are not to wait for that."""
LOOK_S = 0.01


def head_start(run: "Runtime", most_s: float = HEAD_START_S) -> bool:
    """Wait until the rules of this process have come to the end of each of their partitions once, or for so long. Whether they have."""
    deadline, left = time.monotonic() + most_s, set(run.partitions.places(run.app.watched))
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        seen = run.meter.come("detect")
        left = {place for place in left if run.ends.stood(*place, seen.get(place, 0)) is None}
    return not left
