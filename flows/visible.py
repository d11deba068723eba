"""What others say, as a terminal may be given it: an event's text must not move the cursor, rename the window, or hide words."""

import re

SIGN = "\N{REPLACEMENT CHARACTER}"

_DRIVES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Controls of a terminal, of both sets, and those that turn the direction of writing. Line ends and tabs are none of them."""


def visible(text: str) -> str:
    """The text with a sign in the place of each such control."""
    return _DRIVES.sub(SIGN, text)


def escaped(json: str) -> str:
    """The same data, each such control escaped, as JSON may. Takes JSON whose line ends are its own."""
    return _DRIVES.sub(lambda found: f"\\u{ord(found[0]):04x}", json)
