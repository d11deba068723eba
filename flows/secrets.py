"""Which settings are secret, and how they are kept out of whatever is printed."""

import re
from collections.abc import Mapping

STARS = "********"
_WORDS = (
    "password", "secret", "token", "api_key", "api.key", "pem", "jaas", "passphrase", "private_key", "oauthbearer_config", "otlp__headers",
)  # fmt: skip
_SHORTEST = 4
"""Shorter pieces are words of any text."""


def is_secret(name: str) -> bool:
    """Whether a setting or a client property of this name is to be shown as stars; where a secret lies is no secret."""
    plain = name.lower().replace(".", "_")
    return any(word.replace(".", "_") in plain for word in _WORDS) and not plain.endswith(("_location", "_file", "_url"))


def secrets_of(properties: Mapping[str, str]) -> list[str]:
    """The secret values of client properties and their pieces (`oauth` and JAAS configurations hold several), longest first."""
    values = [value for name, value in properties.items() if is_secret(name)]
    pieces = {piece for value in values for piece in (value, *re.split(r"[\s,;=\"']+", value)) if len(piece) >= _SHORTEST}
    return sorted(pieces, key=len, reverse=True)


def without(text: str, secrets: list[str]) -> str:
    """The text with stars in place of secrets."""
    for secret in secrets:
        text = text.replace(secret, STARS)
    return text
