"""Texts of many callers in shared batches."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.enrichers.batching import Batching, shared
from headwater.enrichers.rows import Checked
from headwater.enrichers.testing import HashEmbedder

BATCH = 40


class Counted(HashEmbedder):
    """Remembers each batch; `holds` stops it at the next one that has such a text."""

    batch = BATCH

    def __init__(self) -> None:
        super().__init__(16)
        self.calls: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls.append(list(texts))
        assert self.open.wait(30)
        if any("refused" in text for text in texts):
            raise ValueError("no")
        return super().embed(texts)


def queued(embedder: Batching, callers: int) -> None:
    """Until so many wait."""
    end = time.monotonic() + 60
    while len(embedder._waiting) != callers:
        assert time.monotonic() < end
        threading.Event().wait(0.001)


TEXTS = st.lists(st.text("ab ", min_size=1, max_size=60), max_size=12)


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_each_gets_the_rows_of_its_own_texts(asked):
    """Whoever else asks: the same rows as alone, no batch larger than it may be, and its texts by length."""
    model = Counted()
    embedder = Batching(model)
    with ThreadPoolExecutor(len(asked)) as pool:
        rows = list(pool.map(embedder.embed, asked))
    for texts, found in zip(asked, rows, strict=True):
        assert np.array_equal(found, HashEmbedder(16).embed(texts))
    for call in model.calls:
        assert len(call) <= len(asked) or sum(map(len, call)) <= BATCH + 60 * len(asked)
        assert call == sorted(call, key=len)
    assert sum(map(len, model.calls)) == sum(map(len, asked))


def test_who_asks_for_little_passes_who_asked_for_much():
    """A short request that comes while a long one is embedded is in the very next batch, and the long one has its share of it."""
    model = Counted()
    embedder = Batching(model)
    model.open.clear()
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(embedder.embed, [f"{n:02} long long long" for n in range(50)])
        queued(embedder, 1)
        short = pool.submit(embedder.embed, ["a question"])
        queued(embedder, 2)
        model.open.set()
        short.result(30), long.result(30)
    first = next(n for n, call in enumerate(model.calls) if "a question" in call)
    assert first <= 1 and any("long" in text for text in model.calls[first])
    assert len(model.calls) > 20


def test_a_refused_text_is_refused_to_who_asked_for_it():
    """Others whose texts stood beside it in the batch get their rows."""
    model = Counted()
    embedder = Batching(model)
    model.open.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(embedder.embed, ["first"])
        queued(embedder, 1)
        bad, good = pool.submit(embedder.embed, ["refused"]), pool.submit(embedder.embed, ["good"])
        queued(embedder, 3)
        model.open.set()
        with pytest.raises(ValueError, match="no"):
            bad.result(30)
        assert np.array_equal(good.result(30), HashEmbedder(16).embed(["good"]))
        assert np.array_equal(first.result(30), HashEmbedder(16).embed(["first"]))
    assert ["good", "refused"] in model.calls or ["refused", "good"] in model.calls


def test_only_who_says_how_much_it_takes_is_shared():
    """Others are asked as they were, by many threads at once; and what else an embedder has is found through the batching."""
    plain = HashEmbedder()
    assert isinstance(shared(plain), Checked) and shared(plain).embedded is plain.embedded
    batching = shared(Counted())
    assert isinstance(batching, Batching) and shared(batching) is batching
    assert (batching.name, batching.size, batching.calls) == ("hash", 16, [])
    assert not hasattr(batching, "tokens") and batching.embed([]).shape == (0, 16)
