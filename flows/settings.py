"""Settings: flag > environment > `.env` > default, each with its origin, secrets masked.

`HEADWATER_KAFKA__<ANY LIBRDKAFKA PROPERTY>` passes through (`HEADWATER_KAFKA__BOOTSTRAP_SERVERS` is `bootstrap.servers`);
a secret may lie in a file: `HEADWATER_KAFKA__SASL_PASSWORD_FILE=/run/secrets/kafka`.
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values

from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused

PREFIX = "HEADWATER_"
KAFKA = "HEADWATER_KAFKA__"
BRIDGE = "HEADWATER_BRIDGE__"
"""`HEADWATER_BRIDGE__<NAME>__<ANY LIBRDKAFKA PROPERTY>`: the broker of another region."""
TESTS = "HEADWATER_TEST_"
_SECRET = ("password", "secret", "token", "api_key", "api.key", "pem", "jaas")


class Setting(NamedTuple):
    """One value with where it came from."""

    name: str
    value: str
    origin: str

    @property
    def shown(self) -> str:
        return "********" if any(word in self.name.lower() for word in _SECRET) and self.value else self.value


@dataclass(frozen=True)
class Settings:
    """What a process runs with. `kafka` empty: the embedded broker; `qdrant_url` empty: the embedded engine."""

    home: Path = Path(".headwater")
    app: str = ""
    url: str = ""
    model: str = "local"
    http_host: str = "127.0.0.1"
    http_port: int = 8470
    qdrant_url: str = ""
    qdrant_api_key: str = ""
    index_history: str = "24h"
    log: str = "warning"
    kafka: Mapping[str, str] = field(default_factory=dict)
    bridges: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    origins: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()


VARIABLES = {
    "HEADWATER_HOME": "home",
    "HEADWATER_APP": "app",
    "HEADWATER_URL": "url",
    "HEADWATER_MODEL": "model",
    "HEADWATER_HTTP__HOST": "http_host",
    "HEADWATER_HTTP__PORT": "http_port",
    "HEADWATER_QDRANT__URL": "qdrant_url",
    "HEADWATER_QDRANT__API_KEY": "qdrant_api_key",
    "HEADWATER_INDEX__HISTORY": "index_history",
    "HEADWATER_LOG": "log",
}


def load(
    flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")
) -> Settings:
    """The settings of this process; `flags` are given by variable name. Raises Misused, naming variable, value and what is allowed."""
    environ = os.environ if environ is None else environ
    file = {k: v or "" for k, v in dotenv_values(dotenv).items()} if dotenv is not None and dotenv.is_file() else {}
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    values: dict[str, Any] = {}
    kafka: dict[str, str] = {}
    bridges: dict[str, dict[str, str]] = {}
    origins: list[Setting] = []
    warnings: list[str] = []
    for source, origin in ((file, ".env"), (environ, "environment"), (given, "flag")):
        for variable, text in sorted(source.items()):
            if not variable.upper().startswith(PREFIX) or variable.upper().startswith(TESTS):
                continue
            name, value = _from_file(variable, text)
            if name.upper().startswith(KAFKA):
                kafka[name[len(KAFKA) :].lower().replace("_", ".")] = value
                origins.append(Setting(name, value, origin))
            elif (of_bridge := _bridge(name)) is not None:
                bridges.setdefault(of_bridge[0], {})[of_bridge[1]] = value
                origins.append(Setting(name, value, origin))
            elif name in VARIABLES:
                values[VARIABLES[name]] = _checked(name, value)
                origins.append(Setting(name, value, origin))
            else:
                warnings.append(_unknown(variable))
    defaults = [
        Setting(name, str(f.default), "default")
        for name, attribute in VARIABLES.items()
        for f in fields(Settings)
        if f.name == attribute and attribute not in values
    ]
    last = {setting.name: setting for setting in (*defaults, *origins)}
    return Settings(**values, kafka=kafka, bridges=bridges, origins=tuple(sorted(last.values())), warnings=tuple(warnings))


def _bridge(name: str) -> tuple[str, str] | None:
    """The region (its dashes as underscores) and the property that a variable speaks of."""
    region, _, prop = name.upper().removeprefix(BRIDGE).partition("__")
    if not name.upper().startswith(BRIDGE) or not region or not prop:
        return None
    return region.lower(), prop.lower().replace("_", ".")


def _from_file(variable: str, text: str) -> tuple[str, str]:
    name = variable.removesuffix("_FILE")
    if name == variable or not (name in VARIABLES or name.upper().startswith(KAFKA) or _bridge(name) is not None):
        return variable, text
    try:
        return name, Path(text).read_text().strip()
    except OSError as error:
        raise Misused(f"{variable}={text}: cannot read the file: {error.strerror}") from None


def _checked(name: str, value: str) -> Any:
    try:
        if name == "HEADWATER_HOME":
            return Path(value)
        if name == "HEADWATER_HTTP__PORT":
            port = int(value)
            if not 0 <= port <= 65535:
                raise ValueError
            return port
        if name == "HEADWATER_INDEX__HISTORY":
            duration(value)
    except (ValueError, Misused):
        allowed = {
            "HEADWATER_HTTP__PORT": "a number from 0 (any free port) to 65535",
            "HEADWATER_INDEX__HISTORY": 'a duration such as "24h"',
        }
        raise Misused(f"{name}={value!r} is not allowed; it takes {allowed[name]}") from None
    levels = ("debug", "info", "warning", "error")
    if name == "HEADWATER_LOG" and value not in levels:
        raise Misused(f"{name}={value!r} is not allowed; it takes one of {', '.join(levels)}")
    return value


def _unknown(variable: str) -> str:
    near = difflib.get_close_matches(variable, [*VARIABLES, KAFKA + "BOOTSTRAP_SERVERS", BRIDGE + "NAME__BOOTSTRAP_SERVERS"], 1, 0.5)
    return f"{variable} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
