"""The terminal: one way to make a console, so that what is piped into a file or a pager is not folded at 80 columns, and that what
events say cannot drive the terminal it is shown on."""

import sys

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from headwater.flows.visible import visible

PIPED = 150


def causes(error: BaseException) -> str:
    """An error with what caused it: the engine wraps what a step raised."""
    told: list[str] = []
    each: BaseException | None = error
    while each is not None and len(told) < 6:
        told.append(f"{type(each).__name__}: {each}")
        each = each.__cause__
    return " ← ".join(told)


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or `PIPED` columns where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    made = Console(stderr=stderr, width=None if stream.isatty() else PIPED)
    made.push_render_hook(_Visible())
    return made


class _Visible(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(each) for each in renderables]


class _Shown:
    """A renderable whose words are `visible`; the console's own controls are kept apart from them."""

    def __init__(self, shown: ConsoleRenderable) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._shown, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
