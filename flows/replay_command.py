"""`headwater replay`: decide again what was decided, with one thing changed or nothing; no effect ever happens."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.progress import track

from headwater.agents.agent import Agent
from headwater.agents.case import Case
from headwater.agents.context import Chooser, Chosen, Evidence, Search
from headwater.agents.replay import Replayed, replay
from headwater.flows.app import App
from headwater.flows.cases import Today, cases, line_of, which
from headwater.flows.door import Door, door
from headwater.flows.options import print_json
from headwater.flows.replay_show import print_many, print_one
from headwater.flows.runtime import wall_clock
from headwater.flows.screen import console
from headwater.flows.settings import Settings
from headwater.flows.target import application
from headwater.lineage.errors import Misused


@dataclass(frozen=True)
class Wish:
    """What is to be decided again, and what is to be different about it.

    agent      NAME or NAME@VERSION of the application: who decides now; of many decisions also: whose
    now        search what is known now instead of what was found then
    without    ids of chunks to leave out
    """

    id: str | None = None
    many: bool = False
    since: str | None = None
    agent: str | None = None
    now: bool = False
    without: tuple[str, ...] = ()


def run(settings: Settings, app: str | None, wish: Wish, *, as_json: bool, export: Path | None) -> None:
    """Replay one decision or many, or write their cases to a file. Raises Misused, NotFound, Unavailable."""
    found = door(settings)
    ids = _ids(found, wish)
    if export is not None:
        with export.open("wb") as file:
            file.writelines(line_of(case) for case in _tracked(cases(found, ids), len(ids)))
        typer.echo(f"{len(ids):,} cases written to {export}")
        return
    again = Again(application(settings, app), settings, wish, Today(found) if wish.now else None)
    replayed = [again.decide(case) for case in _tracked(cases(found, ids), len(ids))]
    if as_json:
        print_json([{**msgspec.to_builtins(one), "agrees": one.agrees, "shift": one.shift} for one in replayed])
    elif wish.many:
        print_many(console(), replayed)
    else:
        print_one(console(), replayed[0])


def _ids(found: Door, wish: Wish) -> list[str]:
    if wish.many == (wish.id is not None):
        raise Misused("name one decision, or say --all: headwater replay DECISION   ·   headwater replay --all --since 24h")
    if wish.id is not None:
        if wish.since is not None:
            raise Misused("--since goes with --all; one decision is named by its id")
        return [wish.id]
    ids = which(found, _named(wish.agent)[0], wish.since)
    if not ids:
        raise Misused('no decision has landed that this asks for; `headwater sql "from decisions"` lists them')
    return ids


def _named(agent: str | None) -> tuple[str | None, str | None]:
    """Name and version of NAME@VERSION."""
    if agent is None:
        return None, None
    name, _, version = agent.partition("@")
    return name, version or None


def _tracked(each: Iterator[Case], many: int) -> Iterator[Case]:
    """A bar on the terminal where there is more than one."""
    return each if many == 1 else iter(track(each, "replaying", total=many, console=console(stderr=True), transient=True))


class Again:
    """Decides cases again, by the agents of an application as it is now; `search`: what is known now, else what was found then."""

    def __init__(self, app: App, settings: Settings, wish: Wish, search: Search | None = None) -> None:
        self._app, self._wish, self._search = app, wish, search
        self._chooser = _Later(lambda: _chooser(app, settings))

    def decide(self, case: Case) -> Replayed:
        agent = self._agent(case)
        return asyncio.run(replay(case, agent, self._chooser, wall_clock, search=self._search, without=self._wish.without))

    def _agent(self, case: Case) -> Agent:
        name, version = _named(self._wish.agent)
        name = name or case.agent
        agent = next((agent for agent in self._app.agents if agent.name == name), None)
        if agent is None:
            there = ", ".join(agent.name for agent in self._app.agents) or "none"
            raise Misused(f"the application has no agent {name!r}; it has {there}")
        if version is not None and agent.version != version:
            raise Misused(f"agent {name} is of version {agent.version} in this application, not {version}; name another APP that has it")
        return agent


class _Later:
    """A chooser that is made when it is first asked: an agent without a model needs none loaded."""

    def __init__(self, make: Callable[[], Chooser]) -> None:
        self._make = make
        self._made: Chooser | None = None

    async def choose(self, output: type[Any], situation: str, evidence: Sequence[Evidence]) -> Chosen:
        if self._made is None:
            self._made = self._make()
        return await self._made.choose(output, situation, evidence)


def _chooser(app: App, settings: Settings) -> Chooser:
    from headwater.agents.model import model_from
    from headwater.enrichers.embed import minilm

    return model_from(settings.model, app.embedder or minilm())
