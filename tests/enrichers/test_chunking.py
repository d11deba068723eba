import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.enrichers.chunker import Markdown, Records, Tokens
from headwater.enrichers.chunker import words as weight
from headwater.enrichers.chunking import chunk, hash_of
from headwater.enrichers.document import Document, document
from headwater.lineage.errors import Misused
from headwater.lineage.topic import Topic


class Line(msgspec.Struct):
    text: str


words = st.lists(st.text(alphabet="abcdeé🙂.,#", min_size=1, max_size=40), min_size=1, max_size=300)


def pieces(text, budget=200):
    return chunk(Document("d", text), Markdown(budget))


def test_short_text_is_one_chunk_and_blank_text_none():
    """A status line stays whole; blank text has nothing to find."""
    assert [one.text for one in pieces("United flight is cancelled.")] == ["United flight is cancelled."]
    assert pieces("  \n\n ") == []


def test_markdown_is_cut_at_headings_with_their_path():
    """Every section under its headings; text before the first heading stands under none; fences hide headings."""
    text = "Intro.\n\n# Snow\n\nGeneral.\n\n## De-icing\n\nSpray.\n\n```\n# no heading\n```\n\n## Rebooking ##\n\nCall.\n\n# Fog\n\nWait."
    assert [(one.section, one.text.splitlines()[0]) for one in pieces(text)] == [
        ("", "Intro."), ("Snow", "General."), ("Snow › De-icing", "Spray."), ("Snow › Rebooking", "Call."), ("Fog", "Wait."),
    ]  # fmt: skip
    assert "# no heading" in pieces(text)[2].text


def test_a_heading_with_nothing_under_it_is_a_text():
    """Its words can be found: it is a piece under the headings above it. One with headings or text under it is in their path only."""
    text = "# Snow\n\n## Closed\n\n## Open\n\n# Fog\n\n### Deep\n\nWait.\n\n# End"
    assert [(one.section, one.text) for one in pieces(text)] == [
        ("Snow", "Closed"), ("Snow", "Open"), ("Fog › Deep", "Wait."), ("", "End"),
    ]  # fmt: skip
    assert [(one.section, one.text) for one in pieces("# Kettle\n\n")] == [("", "Kettle")]


def test_the_hash_is_of_what_is_embedded():
    """The same text under another heading is another passage."""
    one, two = pieces("# A\n\nsame\n\n# B\n\nsame")
    assert one.text == two.text and one.hash != two.hash and one.hash == hash_of(one.passage) and len(one.hash) == 32


@given(words, st.integers(8, 40))
def test_no_word_is_lost_and_no_chunk_is_over_budget(words, budget):
    """The chunks of a long paragraph hold all its words in order, overlapping, each within the budget."""
    text = "x " + " ".join(words)
    chunks = pieces(text, budget)
    assert [one.n for one in chunks] == list(range(len(chunks)))
    assert all(sum(-(-len(word) // 12) for word in one.text.split()) <= budget for one in chunks)
    whole = text.split()
    reached = 0
    for one in chunks:
        held = one.text.split()
        # Where words repeat, several places fit: the furthest that leaves no gap.
        start = max(place for place in range(reached + 1) if whole[place : place + len(held)] == held)
        reached = max(reached, start + len(held))
    assert reached == len(whole)


@given(st.text(max_size=2_000), st.integers(1, 50))
def test_any_text_at_all_can_be_chunked(text, budget):
    """No text breaks the chunker, and it says the same again."""
    assert pieces(text, budget) == pieces(text, budget)


def test_one_endless_word_is_cut():
    """A megabyte without a space still ends in chunks that a model can read."""
    assert all(len(one.text) <= 200 * 12 for one in pieces("x" * 100_000))


@given(words, st.integers(2, 40), st.integers(0, 39))
def test_tokens_cut_within_budget_and_overlap_and_lose_nothing(words, budget, overlap):
    """Pieces by length hold the text as it runs, each within the budget, each beginning at or before the end of the one before."""
    if overlap >= budget:
        with pytest.raises(Misused):
            Tokens(budget, overlap)
        return
    text = "\n".join(words)
    texts = [one.text for one in chunk(Document("d", text), Tokens(budget, overlap))]
    assert all(sum(map(weight, one.split())) <= budget for one in texts)
    covered = 0
    for one in texts:
        following = len(text) - len(text[covered:].lstrip())  # the last place where it may begin: one text may stand there twice
        covered = text.rindex(one, 0, following + len(one)) + len(one)
    assert not text[covered:].strip()


def test_tokens_are_counted_as_the_model_does():
    """The measure is the embedder's: where every word is two tokens, a piece holds half as many."""
    text = "a b c d e f"
    assert [one.text for one in chunk(Document("d", text), Tokens(4, 0), lambda word: 2)] == ["a b", "c d", "e f"]
    assert [one.text for one in chunk(Document("d", text), Tokens(4, 1))] == ["a b c d", "d e f"]


def test_records_are_lines_under_their_header():
    """A row is a chunk; with a header, the header stands over each; blank lines are none."""
    table = "gauge,metres\n\na,1\n b,2 \n"
    assert [(one.section, one.text) for one in chunk(Document("d", table), Records(header=True))] == [
        ("gauge,metres", "a,1"), ("gauge,metres", "b,2"),
    ]  # fmt: skip
    assert [one.text for one in chunk(Document("d", table), Records())] == ["gauge,metres", "a,1", "b,2"]


def test_an_own_chunker_is_a_method():
    """Whatever has `pieces` cuts; blank pieces are left out; what has not is refused."""

    class Halves:
        def pieces(self, text, tokens):
            yield "first", text[: len(text) // 2]
            yield "none", "  "
            yield "second", text[len(text) // 2 :]

    assert [(one.n, one.section, one.text) for one in chunk(Document("d", "snowrain"), Halves())] == [
        (0, "first", "snow"), (1, "second", "rain"),
    ]  # fmt: skip
    with pytest.raises(Misused, match="pieces"):
        document(Topic("t", Line), chunk=200)(lambda model, facts: None)
