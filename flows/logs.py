"""Where log lines go."""

import sys

import structlog


def to_stderr() -> None:
    """Standard error, whatever it is by then: what commands print on standard output may be data."""
    structlog.configure(logger_factory=lambda *names: structlog.PrintLogger(sys.stderr))
