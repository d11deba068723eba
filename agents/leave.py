"""Leave to ask an agent: what can be waited for is waited for, and holds nobody but the agent that waits."""

from headwater.agents.agent import Agent
from headwater.agents.context import Ports
from headwater.agents.reins import Held
from headwater.agents.trail import Trail

_HASTE = 0.1
"""The share by which a wait for an opening is drawn out at random, so that not everybody comes back at once."""


async def turn(candidate: Agent, ports: Ports, trail: Trail) -> None:
    """Wait for the turn that the agent's rate gives this decision."""
    wait = ports.reins.of(candidate).turn(ports.clock())
    if wait > 0:
        await ports.sleep(wait / 1_000_000)
        trail.note(f"waited for a turn: {candidate.name} decides {candidate.rate} at most", waited_ms=wait / 1000)


async def leave(candidate: Agent, ports: Ports, trail: Trail, *, last: bool) -> Held | None:
    """Wait until nothing holds the agent, where it declares to wait and nobody else is left to ask; else say what holds it."""
    rein, waited, text = ports.reins.of(candidate), 0.0, ""
    while (held := rein.look(ports.clock())) is not None:
        if not held.patient or (held.reason == "breaker" and not last):
            return held
        pause = held.wait / 1_000_000 * (1 + _HASTE * ports.random())
        await ports.sleep(pause)
        waited, text = waited + pause, text or held.text
    if waited:
        trail.note(f"waited: {text}", waited_ms=waited * 1000)
    return None
