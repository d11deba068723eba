"""How many files this process may hold open: what it needs, and what it is allowed."""

import resource

from headwater.lineage.errors import Misused

FILES = 256
"""An idle headwater holds some eighty; connections, segments of the index and recovery stores come on top."""
WANTED = 4 * FILES


def allowed() -> int:
    """How many files the system lets this process hold open, if it asks; no more than are wanted."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)


def ask_for_files() -> None:
    """Ask for as many as are wanted. Raises Misused where they are too few."""
    most, (soft, hard) = allowed(), resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < FILES:
        raise Misused(f"this process may hold {most} files open at once, and needs {FILES}; allow it more first: ulimit -n {WANTED}")
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
