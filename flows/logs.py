"""Where log lines go."""

import logging
import sys

import structlog


def to_stderr() -> None:
    """Standard error, whatever it is by then: what commands print on standard output may be data."""
    structlog.configure(logger_factory=lambda *names: structlog.PrintLogger(sys.stderr))


def from_level(level: str) -> None:
    """Lines from this level on: `debug`, `info`, `warning` or `error`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]))
