"""Which application a command means."""

from pathlib import Path

from headwater.flows.app import App, load
from headwater.flows.settings import Settings
from headwater.lineage.errors import Misused

DEFAULT = "app.py"


def target_of(settings: Settings, named: str | None) -> str:
    """The application as `load` takes it."""
    return named or settings.app or DEFAULT


def application(settings: Settings, named: str | None) -> App:
    """The App of the command line, else of HEADWATER_APP, else of ./app.py. Raises Misused."""
    target = named or settings.app
    if target:
        return load(target)
    if not Path(DEFAULT).is_file():
        raise Misused("no application: name FILE.py or MODULE:NAME, set HEADWATER_APP, or write one to start from with: headwater init DIR")
    return load(DEFAULT)
