import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.enrichers.bert import packs
from headwater.enrichers.bundled import Tokenizer, folder
from headwater.enrichers.chunker import words
from headwater.enrichers.edge import EdgeIndex
from headwater.enrichers.embed import VectorCache, bfloat16_pays, minilm
from headwater.enrichers.retrieve import Retriever
from headwater.enrichers.said import measure_of
from headwater.enrichers.testing import HashEmbedder

PASSAGES = [
    "When a fifth of departures are cancelled, rebook passengers on later flights and other carriers.",
    "De-icing holds last an hour; spray the wings again when the time is over.",
    "Crews may not work longer than fourteen hours.",
    "Show the new boarding place on all displays.",
]


def test_the_bundled_model_finds_by_meaning(worlds, tmp_path):
    """Searching with other words than the text's, the real model ranks the right passage first."""
    world = worlds()
    world.index.close()
    world.index, world.embedder = EdgeIndex(tmp_path / "real", 384), minilm()
    world.writer().index([world.said(f"p{n}", 1, text) for n, text in enumerate(PASSAGES)])
    search = Retriever(world.index, minilm(), world.progress).search
    queries = ["find seats for stranded travellers", "ice on the plane", "pilots are tired", "gate change on the screens"]
    assert [search(query, limit=1).results[0].text for query in queries] == PASSAGES


def test_a_row_does_not_depend_on_its_company():
    """The real model gives a text the very same unit vector alone, in a batch, in another order."""
    texts = [f"Flight {n} is cancelled{' because of snow' * (n % 5)}." for n in range(40)] + ["w " * 400]
    rows = minilm().embed(texts)
    assert np.array_equal(rows, minilm().embed(texts[::-1])[::-1])
    assert np.array_equal(rows[[3]], minilm().embed(texts[3:4]))
    assert rows.dtype == np.float32 and rows.shape == (41, 384)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert minilm().embed([]).shape == (0, 384)


def test_the_hash_embedder_likes_texts_that_share_words():
    """The double is deterministic, of unit length, and nearer for shared words."""
    one, two, other, blank = HashEmbedder().embed(["snow at Newark", "snow at Boston", "crew legality rules", "…"])
    assert one @ two > one @ other and np.linalg.norm(blank) == pytest.approx(1)


def test_the_cache_forgets_the_least_recently_used():
    """Beyond its size the cache drops what was used longest ago."""
    cache = VectorCache(2)
    cache.update({"a": np.zeros(1), "b": np.ones(1)})
    assert cache.get("a") is not None
    cache.update({"c": np.ones(1)})
    assert cache.get("b") is None and cache.get("a") is not None


def test_bfloat16_is_used_where_the_cpu_has_it(tmp_path):
    """Flags decide; without /proc/cpuinfo it is not used."""
    (tmp_path / "with").write_text("flags : sse avx512_bf16\n")
    (tmp_path / "without").write_text("flags : sse avx2\n")
    assert [bfloat16_pays(tmp_path / name) for name in ("with", "without", "none")] == [True, False, False]


def test_the_model_loads_beside_a_marimo_notebook_and_without_its_makers_libraries():
    """A process that has imported marimo loads both forms of the model; the one that a CPU runs needs torch and nothing above it."""
    code = (
        "import marimo, sys; from headwater.enrichers.embed import minilm; print(minilm().embed(['snow']).shape)\n"
        "assert not {'sentence_transformers', 'transformers', 'sklearn'} & set(sys.modules)\n"
        "print(minilm().model.encode(['snow']).shape)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert result.stdout.split("\n")[:2] == ["(1, 384)"] * 2, result.stderr[-2000:]


def test_packed_texts_give_the_rows_of_the_model_itself():
    """Whatever the mix of lengths, packing without padding gives what sentence-transformers gives for each text."""
    texts = ["snow", *(f"Flight {n} leaves{' late again' * (7 * n % 60)}." for n in range(30)), "word " * 600]
    rows = minilm().embed(texts)
    alone = np.concatenate([minilm().model.encode([text]) for text in texts]).astype(np.float32)
    alone /= np.linalg.norm(alone, axis=1, keepdims=True)
    assert (rows * alone).sum(axis=1).min() > 0.9999


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_packs_keep_every_text_in_order_within_the_budget(lengths, budget):
    """Packs hold all texts in order; only a text that is alone may exceed the budget."""
    texts = [[n] * length for n, length in enumerate(lengths)]
    found = list(packs(texts, budget))
    assert [text for pack in found for text in pack] == texts
    assert all(len(pack) == 1 or sum(map(len, pack)) <= budget for pack in found)


@pytest.fixture(scope="module")
def both():
    """Our reading of the tokenizer's file, and what transformers makes of the folder."""
    return Tokenizer(folder()), minilm().model.tokenizer


@settings(max_examples=200)
@given(st.lists(st.text(max_size=80) | st.text("aé日[CLS] #-\n\u0301", max_size=600), min_size=1, max_size=4))
def test_texts_are_cut_into_the_tokens_that_the_makers_library_finds(both, texts):
    """Any text, in any script and of any length, becomes the ids that transformers finds, cut where it cuts; so does a word alone."""
    ours, theirs = both
    assert ours.ids(texts) == theirs(texts, truncation=True, max_length=256)["input_ids"]
    assert ours.count(texts[0]) == len(theirs(texts[0], add_special_tokens=False)["input_ids"])


def test_minilm_counts_tokens_as_its_tokenizer_does():
    """The words of a text together are as many tokens as the text; so a chunker that counts words stays within the model."""
    text = "De-icing of N123UA was postponed, unbelievably: antidisestablishmentarianism!"
    whole = minilm().model.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert sum(minilm().tokens(word) for word in text.split()) == len(whole) > len(text.split())
    assert measure_of(minilm()) == minilm().tokens and measure_of(HashEmbedder()) is words
