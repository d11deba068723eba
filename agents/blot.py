"""Secrets in what people's code raises: they are blotted out before an error is kept for ever and shown to whoever may ask."""

import os
import re

STARS = "********"
_SHORTEST = 8
"""Shorter values are words of any text."""
_VARIABLE = re.compile(r"(?i)(?:^|_)(?:key|token|secret|password|passwd|pwd|passphrase|credentials?)(?:_|$)")
_NAME = r"[\w.-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|token)"
_SHAPES = (
    (re.compile(r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?)(?:[a-z]+\s+)?[^\s\"',;)}\]]+"), rf"\1{STARS}"),
    (re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}"), rf"\1{STARS}"),
    (re.compile(rf"(?i)(\b{_NAME}\s*=\s*[\"']?)[^\s\"'&,;)}}\]]{{4,}}"), rf"\1{STARS}"),
    (re.compile(rf"(?i)(\b{_NAME}[\"']\s*:\s*[\"'])[^\"']+"), rf"\1{STARS}"),
    (re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)"), rf"\1{STARS}"),
    (re.compile(r"\b(?:sk|pk|rk|ghp|gho|ghs|github_pat|xox[abprs]|glpat|AKIA|eyJ)[\w.-]{16,}"), STARS),
)
"""How secrets look in texts: as a header, a setting, a member of JSON, in an address, or by the beginning that their issuer gives them."""


def blotted(text: str) -> str:
    """The text with stars in place of the values of variables that hold secrets, and of what looks like one."""
    values = {value for name, value in os.environ.items() if len(value) >= _SHORTEST and _VARIABLE.search(name)}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, STARS)
    for shape, stars in _SHAPES:
        text = shape.sub(stars, text)
    return text
