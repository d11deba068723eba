"""For tests of applications: `walk(app, events)` runs the whole walk in memory; `ModelEndpoint` is a language model as told."""

from headwater.agents.endpoint import Calls, Fails, Garbled, Late, ModelEndpoint
from headwater.agents.testing import ScriptedModel, scripted
from headwater.flows.calling import Called
from headwater.flows.testing import Given, Walk, walk

__all__ = ["Called", "Calls", "Fails", "Garbled", "Given", "Late", "ModelEndpoint", "ScriptedModel", "Walk", "scripted", "walk"]
