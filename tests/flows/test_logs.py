"""Which log lines are told."""

import pytest
import structlog

from headwater.flows.logs import from_level


@pytest.mark.parametrize(("level", "told"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_that_is_set_counts(level, told):
    """HEADWATER_LOG: lines below it are not printed, those from it on are."""
    former = structlog.get_config()
    try:
        from_level(level)
        with structlog.testing.capture_logs() as logs:
            for say in ("debug", "info", "warning", "error"):
                getattr(structlog.get_logger(), say)("x")
        assert len(logs) == told
    finally:
        structlog.configure(**former)
