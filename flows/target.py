"""Which application a command means."""

from pathlib import Path

from headwater.flows.app import App, load
from headwater.flows.settings import Settings
from headwater.lineage.errors import Misused

DEFAULT = "app.py"


def file_of(settings: Settings, named: str | None) -> str | None:
    """The application as `load` takes it, where it is a file whose changes can be followed; None: a module."""
    target = named or settings.app or DEFAULT
    return target if target.partition(":")[0].endswith(".py") else None


def application(settings: Settings, named: str | None) -> App:
    """The App of the command line, else of HEADWATER_APP, else of ./app.py. Raises Misused."""
    target = named or settings.app
    if target:
        return load(target)
    if not Path(DEFAULT).is_file():
        raise Misused("no application: name FILE.py or MODULE:NAME, set HEADWATER_APP, or write one to start from with: headwater init DIR")
    return load(DEFAULT)
