"""The HTTP door of the agents: how each stands in this process."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter

from headwater.agents.agent import Agent
from headwater.agents.context import Ports
from headwater.agents.decider import Decider
from headwater.flows.app import App
from headwater.flows.runtime import Runtime


def routes(run: Callable[[], Runtime]) -> APIRouter:
    """`GET /v1/agents`."""
    router = APIRouter(tags=["agents"])

    @router.get("/v1/agents", summary="The agents: what each is doing, and what holds it back")
    def agents() -> list[dict[str, Any]]:
        now = run()
        return standing(now.app, now.ports, now.deciders, now.clock())

    return router


def standing(app: App, ports: Ports, deciders: Mapping[tuple[str, int], Decider], now: int) -> list[dict[str, Any]]:
    """Each agent, and each fallback that is none of the application's agents itself.

    in_flight   activations that are being decided or wait for their turn;  deciding  attempts being made, `queued` those without a place
    """
    known = {each.name: each for agent in app.agents for each in agent.line}
    own = {agent.name for agent in app.agents}
    return [_stands(each, name in own, ports, deciders, now) for name, each in known.items()]


def _stands(agent: Agent, own: bool, ports: Ports, deciders: Mapping[tuple[str, int], Decider], now: int) -> dict[str, Any]:
    found: dict[str, Any] = {"agent": agent.name, "version": agent.version}
    if own:
        found["in_flight"] = sum(len(decider.in_flight()) for (name, _), decider in list(deciders.items()) if name == agent.name)
        found["deciding"], found["queued"] = ports.room.used.get(agent.name, 0), ports.room.waits(agent.name)
    if agent.fallback is not None:
        found["fallback"] = agent.fallback.name
    return {**found, **ports.reins.of(agent).told(now)}
