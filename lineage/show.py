"""show: a path for people, as a tree on the terminal and as a page to keep."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from headwater.lineage.duration import from_datetime, to_datetime
from headwater.lineage.event import Position
from headwater.lineage.picture import picture_of
from headwater.lineage.seen import ActivationSeen, ChunkSeen, DecisionSeen, DocumentSeen, EffectSeen, EventSeen, Link, Retrieval, Why

if TYPE_CHECKING:
    import jinja2
    import polars as pl

    from headwater.lineage.queries import Stage
    from headwater.lineage.verify import Source

EVENTS_SHOWN = 3
NAME = 120
"""Characters of a name that are shown at most: ids and keys are what producers make of them."""
SHOWN = 25
_TIMES = 10**14
"""Versions from here on are times: 1973 in µs. No sequence gets so far."""
_LINKED = frozenset(("id", "decisions", "document", "event", "position"))
_IDS = frozenset(("String", "List(String)"))
"""Columns that hold ids `why` takes."""
_PAGES = Path(__file__).parent / "pages"


def why_tree(why: Why, *, events: int = EVENTS_SHOWN) -> Tree:
    """The path as a tree; of an activation's events the newest `events` are named, the rest counted."""
    if why.kind in ("decision", "effect", "review") and len(why.decisions) == 1:
        return _decision_tree(why.decisions[0], events)
    tree = Tree(Text.assemble("why ", (_short(why.id), "bold"), f"  {why.kind}"))
    lived = {life.position for life in why.lives}
    for event in why.events:
        if event.position not in lived:
            _add_event(tree, event)
    for document in why.documents:
        tree.add(_document_line(document))
    for letter in why.dead_letters if not why.lives else ():
        tree.add(Text.assemble(("dead letter ", "red"), f"{_short(letter['id'])}  {letter.get('cause', '')}: {letter.get('error', '')}"))
    said = {event.position: _event_line(event) for event in why.events}
    for number, life in enumerate(why.lives, 1):  # they tell of their events and dead letters themselves
        branch = tree.add(Text.assemble((f"life {number}    ", "dim"), said.get(life.position, Text(life.short, "cyan"))))
        for step in life.steps:
            branch.add(Text(step))
    told = {decision.activation.id for decision in why.decisions if decision.activation}
    for activation in why.activations:
        if activation.id not in told:
            _add_activation(tree.add(Text.assemble("woke  ", _activation_line(activation))), activation, events)
    for decision in why.decisions:
        tree.add(_decision_tree(decision, events))
    if why.more:
        tree.add(Text(f'… {why.more:,} decisions before these are not told; `headwater sql "from decisions"` has all', style="dim"))
    if not tree.children:
        tree.add("nothing came of it yet")
    return tree


def why_html(why: Why) -> str:
    """The path as one page without outside resources; whatever came from events is escaped."""
    pictures = {decision.id: picture_of(decision) for decision in why.decisions}
    return _environment().get_template("why.html").render(why=why, pictures=pictures)


def home_html(source: "Source", app: str) -> str:
    """The newest decisions, how events ended, the newest dead letters, as one page without outside resources."""
    from headwater.lineage.queries import conservation, dead_letters, decisions

    newest = decisions(source, limit=SHOWN).to_dicts()
    shown = [{**row, "time": _when(from_datetime(row["time"])) if row["time"] else ""} for row in newest]
    ended = [row for row in conservation(source).to_dicts() if row["outcome"] != "consumed"]
    dead = dead_letters(source, limit=SHOWN).to_dicts()
    return _environment().get_template("home.html").render(app=app, decisions=shown, ended=ended, dead=dead)


def frame_html(frame: "pl.DataFrame", title: str) -> str:
    """A frame as one page without outside resources: a table, its ids leading on to their paths."""
    linked = [name for name, kind in frame.schema.items() if name in _LINKED and str(kind) in _IDS]  # `decisions` may be a number
    return _environment().get_template("frame.html").render(title=title, columns=frame.columns, rows=frame.rows(), linked=linked)


def life_line(stages: Sequence["Stage"], position: Position | str) -> Text:
    """`flights/2@1841 ── 41 ms ── searchable ── 22 ms ── activation …`"""
    where = position if isinstance(position, Position) else Position.parse(position)
    line = Text(where.short, style="bold")
    for stage in stages[1:]:
        line.append(f" ── {_ms(stage.ms)} ── ", "dim").append(stage.name)
    return line


def _decision_tree(decision: DecisionSeen, events: int) -> Tree:
    activation = decision.activation
    verb = {"acted": "chose", "waiting": "asked a person about", "no_action": "saw nothing to do"}.get(decision.outcome, decision.outcome)
    title = Text.assemble("why ", (_short(decision.id), "bold cyan"), f"  {decision.who} {verb} ")
    if decision.summary:
        title.append(f'"{decision.summary}"', "bold").append(f" ({decision.confidence:.2f})")
    if activation:
        title.append(f" for {name_of(activation.key)}")
    tree = Tree(title)
    if activation:
        _add_activation(tree.add(Text.assemble(("woken by  ", "dim"), _activation_line(activation))), activation, events, decision.before)
    for retrieval in decision.retrievals:
        _add_retrieval(tree, retrieval, decision)
    for called in decision.tools:
        tree.add(_tool_line(called))
    for note in decision.notes:
        tree.add(Text.assemble(("noted     ", "dim"), _clip(str(note.get("text", "")), 200)))
    if decision.recalled:
        tree.add(Text.assemble(("recalled  ", "dim"), _clip(json.dumps(decision.recalled, ensure_ascii=False), 200)))
    if decision.remembered is not None:
        tree.add(Text.assemble(("remembers ", "dim"), _clip(json.dumps(decision.remembered, ensure_ascii=False), 200)))
    for resumed in decision.resumed_by:
        tree.add(Text.assemble(("resumed   ", "dim"), "by decision ", (_short(resumed), "cyan")))
    if decision.options:
        tree.add(Text.assemble(("options   ", "dim"), " · ".join(f"{option.name} {option.confidence:.2f}" for option in decision.options)))
    allowed = [f"{ruling.get('action')} {ruling.get('resource')}" for ruling in decision.rulings if ruling.get("allowed")]
    if allowed:
        tree.add(Text.assemble(("allowed   ", "dim"), ", ".join(dict.fromkeys(allowed))))
    for ruling in decision.rulings:
        if not ruling.get("allowed"):
            tree.add(Text.assemble(("refused   ", "red"), f"{ruling.get('action')} {ruling.get('resource')} by {ruling.get('policy')}"))
    if decision.error:
        tree.add(Text.assemble(("failed    ", "red"), f"{decision.error} (after {decision.attempts} attempts)"))
    for review in decision.reviews:
        said = f"{review.get('question', '')}  {review.get('reason', '')} (review {_short(review['id'])})"
        asked = tree.add(Text.assemble(("asked     ", "yellow"), said))
        if "verdict" in review:
            why = f": {review['why']}" if review.get("why") else ""
            asked.add(Text.assemble((f"{review['verdict']}  ", "bold"), f"by {review.get('by') or 'nobody'}{why}"))
        for said in review.get("refused", ()):
            asked.add(Text.assemble(("not counted  ", "yellow"), f"{said['verdict']} by {said['by'] or 'nobody'}: {said['why']}"))
    for effect in decision.effects:
        did = tree.add(_effect_line(effect))
        _add_links(did, [link for link in decision.after if link.over == effect.position], "woke")
    return tree


def _tool_line(called: Mapping[str, Any]) -> Text:
    """A tool that was called while deciding: `asked  weather(airport='JFK') → {"snow": true}`."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in (called.get("arguments") or {}).items())
    failed = called.get("error")
    said = (_clip(str(failed)), "red") if failed else (_clip(json.dumps(called.get("answer"), ensure_ascii=False)), "")
    return Text.assemble(("called    ", "dim"), _clip(f"{called.get('tool', '')}({arguments})", 80), " → ", said)


def _add_links(branch: Tree, links: Sequence[Link], verb: str) -> None:
    """The decisions of a cascade, each under the one that joins it."""
    for link in links:
        line = Text.assemble((f"{verb}  ", "dim"), (f"{link.agent}@{link.version}", "bold"), f" by {name_of(f'{link.rule}/{link.key}')}")
        line.append(f' "{link.summary}"' if link.summary else f" {link.outcome}").append(f" ({link.confidence:.2f})")
        line.append(f"   {_short(link.id)}", "dim")
        _add_links(branch.add(line), link.links, verb)


def _add_activation(branch: Tree, activation: ActivationSeen, events: int, before: Sequence[Link] = ()) -> None:
    for event in activation.events[:events]:
        _add_links(branch.add(_event_line(event)), [link for link in before if link.over == event.position], "from")
    more = len(activation.events) - events
    if more > 0:
        branch.add(Text(f"… {more} more", style="dim"))


def _activation_line(activation: ActivationSeen) -> Text:
    counted = f"{activation.count} of {activation.total} ({activation.value:.2f})" if activation.total else f"{activation.value:g}"
    name = name_of(f"{activation.rule}/{activation.key}")
    return Text.assemble((name, "bold"), f" {activation.phase} {_when(activation.at)}   {counted}")


def _add_retrieval(tree: Tree, retrieval: Retrieval, decision: DecisionSeen) -> None:
    at = f" (at {_when(retrieval.at)})" if retrieval.at else ""
    branch = tree.add(Text.assemble(("saw", "dim"), f"{at}  {_clip(repr(retrieval.query), 200)}"))
    for chunk in retrieval.results:
        branch.add(_chunk_line(chunk, decision))


def _chunk_line(chunk: ChunkSeen, decision: DecisionSeen) -> Text:
    section = f" {chunk.section}" if chunk.section else ""
    where = f"{name_of(chunk.document)}{section}, version {_version(chunk.version)}"
    line = Text.assemble((f"{chunk.score:.2f}  ", "bold" if chunk.used else "dim"), where)
    line.append(f'   "{_clip(chunk.text)}"', "italic")
    if chunk.without:
        same = chunk.without.name == decision.summary or chunk.without.name == _first_option(decision)
        other = "same choice" if same else f'"{chunk.without.name}"'
        line.append(f"   without it → {chunk.without.confidence:.2f} {other}", "green" if same else "yellow")
    return line


def _first_option(decision: DecisionSeen) -> str:
    return max(decision.options, key=lambda option: option.confidence).name if decision.options else ""


def _effect_line(effect: EffectSeen) -> Text:
    where = _place(effect.position) if effect.position else effect.target
    did = "called" if effect.effect == "call" else "published once"
    done = did if effect.state == "done" else f"{effect.effect} {effect.state}"
    return Text.assemble(("did       ", "dim"), (where, "bold"), f"  {done} (id {_short(effect.id)})")


def _add_event(tree: Tree, event: EventSeen) -> None:
    branch = tree.add(_event_line(event))
    if event.outcomes:
        branch.add(Text(" · ".join(f"{flow}: {outcome}" for flow, outcome in event.outcomes.items()), style="dim"))


def _event_line(event: EventSeen) -> Text:
    return Text.assemble((event.short, "cyan"), f"  {_clip(event.text) or name_of(event.key or event.id)}", (_read(event.reads), "dim"))


def _read(reads: Mapping[str, Any]) -> str:
    """Where what was known beside an event is from: `   facts: gauge ← letters.csv …`. Enrichers may have any name, `from` as well."""
    said = {name: read if isinstance(read, str) else json.dumps(read, ensure_ascii=False) for name, read in reads.items()}
    return f"   facts: {', '.join(f'{name} ← {_clip(read)}' for name, read in said.items())}" if reads else ""


def _document_line(document: DocumentSeen) -> Text:
    took = ""
    if document.appended and document.settled:
        took = f"   searchable after {_ms((document.settled - document.appended) / 1000)}"
    what = f", version {_version(document.version)}  {document.outcome}   "
    said = (f'"{_clip(document.text)}"', "italic")
    return Text.assemble(("document  ", "dim"), (name_of(document.id), "bold"), what, said, took, (_read(document.reads), "dim"))


def _place(token: str) -> str:
    return Position.parse(token).short if token.count("/") == 3 else token


def _short(id: str) -> str:
    return f"{id[:8]}…" if len(id) >= 32 and " " not in id and "/" not in id else name_of(id)


def name_of(name: str) -> str:
    """A name as it is, its end cut off where it would fill pages."""
    return name if len(name) <= NAME else name[: NAME - 1] + "…"


def _version(version: int) -> str:
    """A sequence as it is; a version that is a time (µs) as a time, as exact as it is: two versions may be of one minute."""
    if version < _TIMES:
        return str(version)
    moment = to_datetime(version)
    if version % 60_000_000 == 0:
        return f"{moment:%Y-%m-%d %H:%M}"
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") if version % 1_000_000 else f"{moment:%Y-%m-%d %H:%M:%S}"


def _when(at: int | None) -> str:
    if at is None:
        return ""
    moment = to_datetime(at)
    return f"{moment.day} {moment:%b %H:%M}"


def _ms(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 10_000 else f"{ms / 1000:.1f} s"


def _clip(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _said(value: object) -> str:
    """What a model was asked or answered, as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def cell(value: object) -> str:
    """One value of a frame as text; times to the millisecond, in UTC."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.0f}" if 10_000 <= abs(value) < 10**15 else f"{value:.4g}"  # as whole numbers are told, without an exponent
        case datetime.datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03}"
        case list():
            return ", ".join(map(cell, value))
    return str(value)


def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_PAGES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(when=_when, version=_version, short=_short, place=_place, name=name_of, clip=_clip, ms=_ms)
    environment.filters.update(cell=cell, said=_said)
    return environment
