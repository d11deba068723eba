"""`headwater replay`: decide again what was decided, with one thing changed or nothing; no effect ever happens."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
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
from headwater.flows.cases import cases, line_of, today, which
from headwater.flows.door import Door, door
from headwater.flows.options import print_json
from headwater.flows.replay_show import Lost, print_lost, print_many, print_one
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
    """Replay one decision or many, or write their cases to a file. Raises Misused, NotFound, Unavailable, and KeyboardInterrupt.

    One of many that cannot be decided again (it was pruned, its agent is gone) is told of, and holds up none of the others.
    """
    found = door(settings)
    ids = _ids(found, wish)
    lost: list[Lost] = []
    with closing(cases(found, ids, (lambda id, error: lost.append(Lost(id, str(error)))) if wish.many else None)) as every:
        given = _tracked(every, len(ids))
        if export is None:
            _decide(found, settings, application(settings, app), wish, given, lost, as_json=as_json, of=len(ids))
            return
        written = _export(given, export)
    print_lost(console(stderr=True), lost)
    typer.echo(f"{written:,} case{'s' if written != 1 else ''} written to {export}")


def _decide(
    found: Door, settings: Settings, app: App, wish: Wish, given: Iterator[Case], lost: list[Lost], *, as_json: bool, of: int
) -> None:  # fmt: skip
    """Decide again and print; what is interrupted tells what it has."""
    replayed: list[Replayed] = []
    cut = False
    with today(found, settings, app) if wish.now else nullcontext() as search:
        again = Again(app, settings, wish, search)
        try:
            for case in given:
                again.into(replayed, lost, case)
        except KeyboardInterrupt:
            cut = wish.many and bool(replayed)
            if not cut:
                raise
    if lost and not replayed:
        raise Misused(f"none of {len(lost):,} can be decided again; the first, {lost[0].id}: {lost[0].why}")
    _print(replayed, lost, wish, as_json=as_json)
    if cut:
        typer.echo(f"interrupted after {len(replayed) + len(lost):,} of {of:,}", err=True)
        raise typer.Exit(130)


def _print(replayed: Sequence[Replayed], lost: Sequence[Lost], wish: Wish, *, as_json: bool) -> None:
    if as_json:
        print_json([{**msgspec.to_builtins(one), "agrees": one.agrees, "shift": one.shift} for one in replayed])
    elif wish.many:
        print_many(console(), replayed)
    else:
        print_one(console(), replayed[0])
    print_lost(console(stderr=True), lost)


def _export(given: Iterator[Case], path: Path) -> int:
    """Write cases to a file that is whole or not there; how many."""
    part = path.with_name(f"{path.name}.part")
    written = 0
    try:
        with part.open("wb") as file:
            for case in given:
                file.write(line_of(case))
                written += 1
        part.replace(path)
    except OSError as error:
        raise Misused(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return written


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

    def into(self, replayed: list[Replayed], lost: list[Lost], case: Case) -> None:
        """Decide a case again. One of many whose agent the application lacks is lost, unless an agent is named for all."""
        try:
            replayed.append(self.decide(case))
        except Misused as error:
            if not self._wish.many or self._wish.agent is not None:
                raise
            lost.append(Lost(case.id, str(error)))

    def decide(self, case: Case) -> Replayed:
        """Raises Misused if the application lacks the agent, or if one decision is to do without a chunk that it did not have."""
        agent = self._agent(case)
        if self._wish.without and not self._wish.many and self._search is None:
            _had(case, self._wish.without)
        return asyncio.run(replay(case, agent, self._chooser, wall_clock, search=self._search, without=self._wish.without))

    def _agent(self, case: Case) -> Agent:
        name, version = _named(self._wish.agent)
        name = name or case.agent
        agents = {each.name: each for agent in reversed(self._app.agents) for each in reversed(agent.line)}
        agents.update({agent.name: agent for agent in self._app.agents})
        agent = agents.get(name)
        if agent is None:
            there = ", ".join(sorted(agents)) or "none"
            raise Misused(f"the application has no agent {name!r}; it has {there}")
        if version is not None and agent.version != version:
            raise Misused(f"agent {name} is of version {agent.version} in this application, not {version}; name another APP that has it")
        return agent


def _had(case: Case, without: Sequence[str]) -> None:
    seen = [hit["id"] for step in (*case.steps, *case.earlier) if step.kind == "retrieval" for hit in step.data.get("results") or ()]
    if missing := [chunk for chunk in without if chunk not in seen]:
        there = ", ".join(dict.fromkeys(seen)) or "none"
        raise Misused(f"decision {case.id} did not see a chunk {missing[0]!r}; it saw {there}")


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
