"""Law 7, deny by default: no agent publishes, calls or reads what a policy does not allow; each answer is a ruling.

One seam for every question, `authorise(principal, action, resource, context)`. Today's only policy is what the agent
declares in the application file; a policy engine takes its place by being handed to `Ports.authorise`.
"""

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from headwater.agents.agent import Agent
from headwater.lineage.topic import REVIEWS

INDEX = "index"
"""The resource of every retrieval."""
MODEL = "model"
"""The resource of every typed choice."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks. `grants` are the (action, resource) pairs that the application file declares for it."""

    name: str
    grants: frozenset[tuple[str, str]] = frozenset()


class Ruling(msgspec.Struct, frozen=True):
    """What a policy answered; `policy` names the rule that spoke."""

    allowed: bool
    policy: str
    reason: str


class Authorise(Protocol):
    def __call__(self, principal: Principal, action: str, resource: str, context: Mapping[str, Any]) -> Ruling:
        """Whether the principal may do this to that. `context` carries what a policy may look at: activation, rule, key, ordinal."""
        ...


@functools.lru_cache(maxsize=256)
def principal_of(agent: Agent) -> Principal:
    """An agent as a principal: it may wake on its rules, search, ask the model, publish to its topics, call its tools, ask a person."""
    grants = {("decide", rule.name) for rule in (*agent.wakes_on, *agent.awaits)}
    grants.update(("await", rule.name) for rule in agent.awaits)
    grants.update(("publish", topic.name) for topic in agent.publishes)
    grants.update(("call", tool.scope) for tool in agent.tools)
    grants.update({("retrieve", INDEX), ("choose", MODEL), ("ask", REVIEWS)})
    return Principal(f"agent/{agent.name}@{agent.version}", frozenset(grants))


def authorise(principal: Principal, action: str, resource: str, context: Mapping[str, Any]) -> Ruling:
    """The policy `declared`: allowed is what the application file declares, and nothing else."""
    if (action, resource) in principal.grants:
        return Ruling(True, "declared", f"{principal.name} declares {action} {resource}")
    declared = sorted(what for verb, what in principal.grants if verb == action)
    instead = f"it declares {', '.join(declared)}" if declared else f"it declares no {action}"
    return Ruling(False, "deny by default", f"{principal.name} may not {action} {resource}: {instead}")
