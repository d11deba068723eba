"""`headwater ask`: the named questions about lineage, as a table, as data, or as a page."""

from pathlib import Path

import typer

from headwater.flows.door import door
from headwater.flows.frames import print_frame
from headwater.flows.options import print_json
from headwater.flows.screen import console
from headwater.flows.settings import Settings
from headwater.flows.written import write


def run(settings: Settings, question: str | None, ids: list[str], as_json: bool, html: Path | None) -> None:
    """Answer one question; without one, tell which there are. Raises Misused, NotFound, Unavailable."""
    if question is None:
        from headwater.lineage.ask import QUESTIONS

        for each in QUESTIONS.values():
            typer.echo(f"  headwater ask {' '.join((each.name, *each.takes)):32} {each.about}")
        return
    with door(settings).lineage() as lineage:
        frame = lineage.ask(question, *ids)
    if html is not None:
        from headwater.lineage.show import frame_html

        write(html, frame_html(frame, " ".join((question, *ids))))
    elif as_json:
        print_json(frame.to_dicts())
    else:
        print_frame(console(), frame)
