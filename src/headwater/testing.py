"""For tests of applications: `walk(app, events)` runs the whole walk in memory."""

from headwater.flows.testing import Given, Walk, walk

__all__ = ["Given", "Walk", "walk"]
