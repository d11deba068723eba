from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.bounded import SHORT, bounded

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=5), inner, max_size=6),
    max_leaves=20,
)


def strings(value):
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for one in inside for each in strings(one)]


def entries(value):
    if isinstance(value, list):
        return len(value) + sum(map(entries, value))
    return sum(map(entries, value.values())) if isinstance(value, dict) else 0


@given(values)
def test_what_fits_is_told_whole(value):
    """A value within all bounds comes back as it was, without a note."""
    assert bounded(value, longest=10_000, most=1_000, all=10_000_000) == (value, [])


@given(values, st.integers(201, 260), st.integers(1, 8), st.integers(0, 2_000))
def test_nothing_is_cut_without_a_note(value, longest, most, all):
    """Whatever is missing afterwards is told, with how much; short texts, such as ids, are whole or absent."""
    kept, notes = bounded(value, longest=longest, most=most, all=all)
    assert (kept == value) == (not notes)
    before = set(strings(value))
    assert all_whole(kept, before)
    assert entries(kept) <= entries(value)


def all_whole(kept, before):
    return all(text in before or "… [" in text for text in strings(kept) if len(text) <= SHORT)


@given(st.lists(st.text(min_size=1, max_size=600), max_size=20), st.integers(0, 5_000))
def test_all_texts_together_are_bounded(texts, all):
    """However many texts there are, no more is told than is allowed, and one text with its note."""
    kept, _ = bounded(texts, all=all)
    assert sum(map(len, kept)) <= all + SHORT + 40
