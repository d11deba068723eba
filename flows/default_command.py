"""A group of commands of which one is meant when none is named: `headwater topics app.py` lists, `headwater topics migrate X` migrates."""

import typer
from typer.core import TyperGroup

DEFAULT = "list"


class DefaultGroup(TyperGroup):
    """What does not begin with the name of a command (an option, an application) goes to `list`; `--help` stays the group's."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        asks = args[:1] and args[0] in (*self.get_help_option_names(ctx), *self.commands)
        return super().parse_args(ctx, args if asks else [DEFAULT, *args])
