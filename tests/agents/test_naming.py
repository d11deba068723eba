"""Names that follow from what they name."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from headwater.agents.naming import naming


@given(st.uuids(), st.text())
def test_as_the_library_makes_them(namespace, text):
    """Every name is the UUIDv5 of its text in the namespace."""
    assert naming(namespace)(text) == str(uuid.uuid5(namespace, text))
