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
from urllib.parse import urlsplit

from dotenv import dotenv_values

from headwater.agents.hops import HOPS, KEPT
from headwater.flows.secrets import STARS, is_secret
from headwater.lineage.duration import duration
from headwater.lineage.errors import Misused

PREFIX = "HEADWATER_"
KAFKA = "HEADWATER_KAFKA__"
BRIDGE = "HEADWATER_BRIDGE__"
"""`HEADWATER_BRIDGE__<NAME>__<ANY LIBRDKAFKA PROPERTY>`: the broker of another region."""
OURS = ("auto.offset.reset", "enable.auto.commit", "enable.partition.eof")
"""Properties of the Kafka client that no setting changes."""
TESTS = "HEADWATER_TEST_"
_PATHS = frozenset(f"{KAFKA}SASL_OAUTHBEARER_ASSERTION_{what}" for what in ("FILE", "PRIVATE_KEY_FILE", "JWT_TEMPLATE_FILE"))
"""Client properties that name a file themselves: their value is the path."""

MOST_RUNGS = 20


class Setting(NamedTuple):
    """One value with where it came from."""

    name: str
    value: str
    origin: str

    @property
    def shown(self) -> str:
        return STARS if is_secret(self.name) and self.value else self.value

    def __repr__(self) -> str:
        return f"Setting(name={self.name!r}, value={self.shown!r}, origin={self.origin!r})"


@dataclass(frozen=True)
class Settings:
    """What a process runs with. `kafka` empty: the embedded broker; `qdrant_url` empty: the embedded engine."""

    home: Path = Path(".headwater")
    app: str = ""
    url: str = ""
    model: str = "local"
    http_host: str = "127.0.0.1"
    http_port: int = 8470
    http_rate: float = 0.0
    http_burst: int = 1000
    http_max_bytes: int = 16_000_000
    http_names: str = ""
    qdrant_url: str = ""
    qdrant_api_key: str = field(default="", repr=False)
    qdrant_grpc_port: int = 0
    index_history: str = "24h"
    index_quantization: str = "none"
    index_on_disk: bool = False
    agents_at_once: int = 1000
    retry_delays: str = "1s,10s,60s"
    retry_expires: str = "1h"
    registry_url: str = ""
    registry_user: str = ""
    registry_password: str = field(default="", repr=False)
    agents_hops: int = HOPS
    otlp_endpoint: str = ""
    otlp_headers: str = field(default="", repr=False)
    otlp_ratio: float = 0.01
    openlineage_url: str = ""
    openlineage_api_key: str = field(default="", repr=False)
    lineage_keep_texts: str = ""
    lineage_keep_reasoning: str = ""
    heads_private_key: str = field(default="", repr=False)
    log: str = "warning"
    kafka: Mapping[str, str] = field(default_factory=dict, repr=False)
    bridges: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    origins: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()


VARIABLES = {
    "HEADWATER_HOME": "home",
    "HEADWATER_APP": "app",
    "HEADWATER_URL": "url",
    "HEADWATER_MODEL": "model",
    "HEADWATER_HTTP__HOST": "http_host",
    "HEADWATER_HTTP__PORT": "http_port",
    "HEADWATER_HTTP__RATE": "http_rate",
    "HEADWATER_HTTP__BURST": "http_burst",
    "HEADWATER_HTTP__MAX_BYTES": "http_max_bytes",
    "HEADWATER_HTTP__NAMES": "http_names",
    "HEADWATER_QDRANT__URL": "qdrant_url",
    "HEADWATER_QDRANT__API_KEY": "qdrant_api_key",
    "HEADWATER_QDRANT__GRPC_PORT": "qdrant_grpc_port",
    "HEADWATER_INDEX__HISTORY": "index_history",
    "HEADWATER_INDEX__QUANTIZATION": "index_quantization",
    "HEADWATER_INDEX__ON_DISK": "index_on_disk",
    "HEADWATER_AGENTS__AT_ONCE": "agents_at_once",
    "HEADWATER_RETRY__DELAYS": "retry_delays",
    "HEADWATER_RETRY__EXPIRES": "retry_expires",
    "HEADWATER_SCHEMA_REGISTRY__URL": "registry_url",
    "HEADWATER_SCHEMA_REGISTRY__USER": "registry_user",
    "HEADWATER_SCHEMA_REGISTRY__PASSWORD": "registry_password",
    "HEADWATER_AGENTS__HOPS": "agents_hops",
    "HEADWATER_OTLP__ENDPOINT": "otlp_endpoint",
    "HEADWATER_OTLP__HEADERS": "otlp_headers",
    "HEADWATER_OTLP__RATIO": "otlp_ratio",
    "HEADWATER_OPENLINEAGE__URL": "openlineage_url",
    "HEADWATER_OPENLINEAGE__API_KEY": "openlineage_api_key",
    "HEADWATER_LINEAGE__KEEP_TEXTS": "lineage_keep_texts",
    "HEADWATER_LINEAGE__KEEP_REASONING": "lineage_keep_reasoning",
    "HEADWATER_HEADS__PRIVATE_KEY": "heads_private_key",
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
                kafka[property := name[len(KAFKA) :].lower().replace("_", ".")] = value
                if property in OURS:
                    warnings.append(f"{name} changes nothing: {property} is headwater's own, what is accounted for hangs on it")
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
    known = name in VARIABLES or name.upper().startswith(KAFKA) or _bridge(name) is not None
    if name == variable or variable.upper() in _PATHS or not known:
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
        if name in _WORDS:
            return _WORDS[name][value]
        if name in _NUMBERS:
            kind, least, most, _ = _NUMBERS[name]
            number = kind(value)
            if not least <= number <= most:
                raise ValueError
            return number
        if name in ("HEADWATER_INDEX__HISTORY", "HEADWATER_RETRY__EXPIRES") or (name.startswith("HEADWATER_LINEAGE__KEEP_") and value):
            duration(value)
        if name == "HEADWATER_RETRY__DELAYS" and value != "none":
            delays = [duration(each) for each in value.split(",")]
            if len(delays) > MOST_RUNGS:
                raise ValueError
    except (ValueError, KeyError, Misused):
        allowed = {
            "HEADWATER_HTTP__PORT": "a number from 0 (any free port) to 65535",
            "HEADWATER_INDEX__HISTORY": 'a duration such as "24h"',
            "HEADWATER_RETRY__EXPIRES": 'a duration such as "1h"',
            "HEADWATER_LINEAGE__KEEP_TEXTS": 'a duration such as "90d", or nothing',
            "HEADWATER_LINEAGE__KEEP_REASONING": 'a duration such as "90d", or nothing',
            "HEADWATER_RETRY__DELAYS": f'up to {MOST_RUNGS} durations such as "1s,10s,60s", or "none"',
            **{name: "one of " + ", ".join(words) for name, words in _WORDS.items()},
            **{name: allowed for name, (_, _, _, allowed) in _NUMBERS.items()},
        }
        raise Misused(f"{name}={value!r} is not allowed; it takes {allowed[name]}") from None
    if name in _URLS and name != "HEADWATER_OPENLINEAGE__URL":
        _checked_url(name, value)
    if name == "HEADWATER_OPENLINEAGE__URL" and value:
        if value.startswith("http"):
            _checked_url(name, value)
        elif not value.startswith(("kafka:", "file:")) or value in ("kafka:", "file:"):
            raise Misused(f"{name}={value!r} is not allowed; it takes http://…, kafka:TOPIC or file:PATH")
    levels = ("debug", "info", "warning", "error")
    if name == "HEADWATER_LOG" and value not in levels:
        raise Misused(f"{name}={value!r} is not allowed; it takes one of {', '.join(levels)}")
    return value


_WORDS: dict[str, dict[str, Any]] = {
    "HEADWATER_INDEX__QUANTIZATION": {"none": "none", "scalar": "scalar", "binary": "binary"},
    "HEADWATER_INDEX__ON_DISK": {"false": False, "true": True},
}
"""Settings that take one of a few words, and what each means."""

_NUMBERS: dict[str, tuple[type[int] | type[float], float, float, str]] = {
    "HEADWATER_HTTP__RATE": (float, 0, 1e9, "events per second that one address may send; 0: as many as it likes"),
    "HEADWATER_HTTP__BURST": (int, 1, 10**9, "a number of events from 1 on"),
    "HEADWATER_QDRANT__GRPC_PORT": (int, 0, 65535, "a port; 0: the server is spoken to by REST"),
    "HEADWATER_AGENTS__HOPS": (int, 1, KEPT, f"how many decisions may follow from each other, 1 to {KEPT}"),
    "HEADWATER_OTLP__RATIO": (float, 0, 1, "a share from 0 (none) to 1 (all)"),
    "HEADWATER_AGENTS__AT_ONCE": (int, 1, 100_000, "a number of attempts from 1 to 100000"),
    "HEADWATER_HTTP__MAX_BYTES": (int, 1000, 10**9, "a number of bytes from 1000 to 1000000000"),
}
"""Settings that are numbers: what they are, from, to, in words."""


_URLS = {
    "HEADWATER_SCHEMA_REGISTRY__URL": "HEADWATER_SCHEMA_REGISTRY__USER and __PASSWORD",
    "HEADWATER_OTLP__ENDPOINT": "HEADWATER_OTLP__HEADERS",
    "HEADWATER_OPENLINEAGE__URL": "HEADWATER_OPENLINEAGE__API_KEY",
}
"""Settings that are addresses, and where what is secret about them goes."""


def _checked_url(name: str, value: str) -> None:
    """An address is shown and told; so nothing secret may stand in it."""
    found = urlsplit(value)
    if "@" in found.netloc:
        raise Misused(f"{name} holds a user or a password, and would be shown: give them as {_URLS[name]}")
    if value and (found.scheme not in ("http", "https") or not found.netloc):
        raise Misused(f"{name}={value!r} is not allowed; it takes an address such as http://127.0.0.1:8081")


def _unknown(variable: str) -> str:
    near = difflib.get_close_matches(variable, [*VARIABLES, KAFKA + "BOOTSTRAP_SERVERS", BRIDGE + "NAME__BOOTSTRAP_SERVERS"], 1, 0.5)
    return f"{variable} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
