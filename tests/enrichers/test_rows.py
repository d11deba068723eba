"""What an embedder of one's own may get wrong, and what becomes of it."""

import numpy as np
import pytest

from headwater.enrichers.embed import VectorCache
from headwater.enrichers.rows import checked
from headwater.enrichers.testing import HashEmbedder
from headwater.enrichers.vectors import Vectors
from headwater.enrichers.web import Search, answer
from headwater.lineage.errors import IndexFailed, Misused, Unavailable


class Own:
    """Gives for each text what it is told to give."""

    name, size = "own", 2

    def __init__(self, rows):
        self.rows = rows

    def embed(self, texts):
        return [self.rows[text] for text in texts]


def test_rows_of_any_length_become_of_length_one_and_others_keep_their_digits():
    """Plain lists will do; what is of length 1 is not touched."""
    rows = checked(Own({"a": [3.0, 4.0], "b": [0.6, 0.8]})).embed(["a", "b"])
    assert rows.dtype == np.float32 and np.allclose(rows, [[0.6, 0.8], [0.6, 0.8]])
    plain = HashEmbedder()
    assert np.array_equal(checked(plain).embed(["one two", "three"]), plain.embed(["one two", "three"]))
    assert checked(checked(plain)).embedded is plain.embedded


@pytest.mark.parametrize("given", [[[1.0, 0.0, 0.0]], [], [[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0], 5.0])
def test_another_shape_is_told_and_no_text_is_at_fault(given):
    """An index whose embedder says another size than it gives waits until it is mended; no document is lost to it."""

    class Wrong(Own):
        def embed(self, texts):
            return given

    with pytest.raises(Unavailable, match=r"own gave an array of shape .*size=2 it must be \(1, 2\)"):
        checked(Wrong({})).embed(["text"])


@pytest.mark.parametrize("row", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 0.0]])
def test_a_row_without_a_direction_is_that_texts_fault(edge_world, row):
    """The text is named; of a document it is the dead letter's cause, the others of its batch are indexed, and nothing of it is cached."""
    embedder = checked(Own({"good": [1.0, 0.0], "bad": row}))
    with pytest.raises(Misused, match=r"without a direction .* for 'bad'"):
        embedder.embed(["good", "bad"])
    cache = VectorCache()
    made, refused = Vectors(edge_world.index, embedder, cache=cache)._compute(["1", "2"], ["good", "bad"])
    assert list(made) == ["1"] and isinstance(refused["2"], IndexFailed) and "bad" in str(refused["2"])


def test_a_search_whose_text_the_embedder_refuses_is_misused(edge_world):
    """It is no failure of the index: the text is the caller's."""

    class Refusing(HashEmbedder):
        def embed(self, texts):
            raise IndexFailed("refuses a text with 400")

    edge_world.writer().index([edge_world.said("a", 1, "snow")])
    reader = edge_world.reader()
    reader._embedder = Refusing()
    with pytest.raises(Misused, match="cannot be searched for: refuses a text"):
        answer(reader, Search(text="snow"))
