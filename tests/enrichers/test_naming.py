"""Names that follow from what they name."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.document import NAMESPACE, tie_of
from headwater.lineage.naming import naming


@given(st.uuids(), st.text())
def test_as_the_library_makes_them(namespace, text):
    """Every name is the UUIDv5 of its text in the namespace."""
    assert naming(namespace)(text) == str(uuid.uuid5(namespace, text))


@given(st.text())
def test_what_breaks_a_tie_is_the_beginning_of_a_name(event_id):
    """Between equal versions decide the first 52 bits of the event id's UUIDv5: stored indexes hang on it."""
    assert tie_of(event_id) == uuid.uuid5(NAMESPACE, event_id).int >> 76
