"""Agents by version: a changed source under an unchanged version is warned of, for then two agents decide under one name."""

import json
from collections.abc import Sequence
from pathlib import Path

from headwater.agents.agent import Agent
from headwater.flows.run_file import write_whole

NAME = "agents.json"


def changed(home: Path, agents: Sequence[Agent]) -> list[str]:
    """A sentence for each agent whose source differs from what this home last saw under the same version; the new one is remembered."""
    path = home / NAME
    known: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    seen = {f"{agent.name}@{agent.version}": agent.digest for agent in _all(agents)}
    told = [
        f"agent {name} has changed since it last ran here, yet its version has not: give it a new version= to keep its decisions apart"
        for name, digest in seen.items()
        if known.get(name, digest) != digest
    ]
    write_whole(path, json.dumps({**known, **seen}, indent=1))
    return told


def _all(agents: Sequence[Agent]) -> list[Agent]:
    """Agents and their fallbacks."""
    found: list[Agent] = []
    for agent in agents:
        each: Agent | None = agent
        while each is not None and each not in found:
            found.append(each)
            each = each.fallback
    return found
