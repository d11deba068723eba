"""Secrets of an application: it names the variable, the environment holds the value, nothing prints it."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from headwater.lineage.errors import Misused


def secret(name: str, what: str, environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")) -> bytes:
    """The value of a variable, of the file that `NAME_FILE` names, or of `.env`. Raises Misused, saying what to set."""
    environ = os.environ if environ is None else environ
    file = {key: value or "" for key, value in dotenv_values(dotenv).items()} if dotenv is not None and dotenv.is_file() else {}
    for source in (environ, file):
        if value := source.get(name):
            return value.encode()
        if path := source.get(f"{name}_FILE"):
            try:
                if value := Path(path).read_text().strip():
                    return value.encode()
            except OSError as error:
                raise Misused(f"{name}_FILE={path}: cannot read the file: {error.strerror}") from None
    raise Misused(f"{what} needs its secret: set {name}, or {name}_FILE to a file that holds it")
