"""Embedders: texts → unit vectors. The bundled one is MiniLM, which runs on any CPU and needs no network."""

import functools
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from headwater.enrichers.bert import Bert
from headwater.enrichers.bundled import Tokenizer, folder, read_bert
from headwater.enrichers.engine import Vector
from headwater.lineage.errors import Unavailable

GPU_BATCH = 256
CHARACTERS, GPU_CHARACTERS = 8_000, 150_000
"""Of the texts that are embedded at once: a pack on a CPU, a batch on a GPU. A question waits for no more than one of these."""
WORDS_KEPT = 100_000


class Embedder(Protocol):
    """Texts → float32 array of shape (n, size), each row of length 1. The same text gives the same row in any company.

    One that also has `tokens(word) -> int` makes chunkers count as its model does. One that also has `batch`, a number of characters, is
    asked for about so much at once, texts of several documents together, and by one thread at a time (`batching`).
    """

    name: str
    size: int

    def embed(self, texts: Sequence[str]) -> Vector:
        """One row per text. Raises Unavailable if the model cannot be loaded or reached."""
        ...


class MiniLM:
    """all-MiniLM-L6-v2 from the bundled weights, 384 dimensions, on bfloat16 where the CPU computes with it (cosine to fp32: 0.9999).

    On a CPU texts are packed without padding (`bert`), and a row does not depend on what else is in the batch. On a GPU, where torch sees
    one, sentence-transformers batches and pads them, and rows may differ by company in their last digits.
    The model is loaded on first use (a second or two); calls take turns.
    """

    name = "all-MiniLM-L6-v2"
    size = 384

    def __init__(self) -> None:
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._model: Any = None
        self._packed: Bert | None = None
        self._tokenizer: Tokenizer | None = None
        self._tokens: dict[str, int] = {}

    def embed(self, texts: Sequence[str]) -> Vector:
        """One row per text. Raises Unavailable."""
        if not len(texts):
            return np.empty((0, self.size), dtype=np.float32)
        with self._lock:
            tokenizer = self._loaded()
            if self._packed is None:
                return _padded(self._model, texts)
            return self._packed.embed(tokenizer.ids(texts))

    def tokens(self, word: str) -> int:
        """How many tokens a word is; while a batch is computed words are counted all the same. Raises Unavailable."""
        known = self._tokens.get(word)
        if known is None:
            known = self._loaded().count(word)
            if len(self._tokens) < WORDS_KEPT:
                self._tokens[word] = known
        return known

    @property
    def model(self) -> Any:
        """The sentence-transformers model itself, which a CPU does not need: loaded when it is asked for. Raises Unavailable."""
        self._loaded()
        with self._loading, _told():
            if self._model is None:
                self._model = _load("cpu")
            return self._model

    @property
    def batch(self) -> int:
        """Characters that it embeds at once."""
        return GPU_CHARACTERS if self._tokenizer is not None and self._packed is None else CHARACTERS

    def _loaded(self) -> Tokenizer:
        with self._loading, _told():
            if self._tokenizer is None:
                device = _device()
                if device == "cpu":
                    self._packed = read_bert(folder(), _precision(device))
                else:
                    self._model = _load(device)
                self._tokenizer = Tokenizer(folder())
            return self._tokenizer


@functools.cache
def minilm() -> MiniLM:
    """The one instance of this process."""
    return MiniLM()


class VectorCache:
    """Vectors by content hash, the least recently used forgotten first. Safe among threads."""

    def __init__(self, size: int = 20_000) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, Vector] = OrderedDict()

    def get(self, hash: str) -> Vector | None:
        with self._lock:
            vector = self._vectors.get(hash)
            if vector is not None:
                self._vectors.move_to_end(hash)
            return vector

    def update(self, vectors: Mapping[str, Vector]) -> None:
        with self._lock:
            self._vectors.update(vectors)
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)

    def clear(self) -> None:
        """Forget all: what is needed is computed again."""
        with self._lock:
            self._vectors.clear()


def bfloat16_pays(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU computes with bfloat16; elsewhere it would be emulated, slowly."""
    try:
        flags = cpuinfo.read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def threads(processors: int | None = None) -> int:
    """Half the processors. The broker, the engine and the other flows need theirs, and the model's threads wait for one another:
    where one of them has to share its processor all stand still (small batches then take ten times as long)."""
    return max(1, (processors or os.cpu_count() or 1) // 2)


@contextmanager
def _outside_marimo() -> Iterator[None]:
    """transformers takes any process that has imported marimo for a notebook with IPython, and fails to import where that is missing."""
    marimo = sys.modules.pop("marimo", None)
    try:
        yield
    finally:
        if marimo is not None:
            sys.modules["marimo"] = marimo


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (ImportError, OSError) as error:
        why = f"the bundled embedding model cannot be loaded: {error}; install headwater with its dependencies"
        raise Unavailable(why) from error


def _device() -> str:
    """Where to compute; torch takes the threads that are ours there."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads())
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(device: str) -> Any:
    import torch

    return torch.bfloat16 if device == "cpu" and bfloat16_pays() else torch.float32


def _load(device: str) -> Any:
    """The model as sentence-transformers runs it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with _outside_marimo():
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return SentenceTransformer(str(folder()), device=device, model_kwargs={"dtype": _precision(device)})


def _padded(model: Any, texts: Sequence[str]) -> Vector:
    rows: Vector = model.encode(list(texts), batch_size=GPU_BATCH, normalize_embeddings=True, show_progress_bar=False)
    return rows
