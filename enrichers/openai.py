"""OpenAIEmbedder: vectors from any endpoint that speaks OpenAI's embeddings API, hosted or local."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np

from headwater.enrichers.engine import Vector
from headwater.enrichers.point import unit
from headwater.lineage.duration import duration
from headwater.lineage.errors import IndexFailed, Misused, Unavailable
from headwater.lineage.named_secret import secret

OPENAI = "https://api.openai.com/v1"
_TEXT_IS_AT_FAULT = frozenset((400, 413, 422))
"""The endpoint takes no such text; every other refusal concerns all texts alike, and the index waits until it is mended."""


class OpenAIEmbedder:
    """`App(…, embedder=OpenAIEmbedder("text-embedding-3-small", size=1536))`.

    model    as the endpoint calls it;  size  of its vectors
    url      what stands before `/embeddings`;  key  the variable that holds the key; None: the endpoint wants none
    batch    texts of one request;  at_once  requests under way;  timeout  of one request
    shorten  ask the model for vectors of `size`, where it can make shorter ones

    Vectors are made of length 1. The key is read with the first request.
    """

    def __init__(
        self, model: str, *, size: int, url: str = OPENAI, key: str | None = "OPENAI_API_KEY", batch: int = 64, at_once: int = 4,
        timeout: str = "30s", shorten: bool = False,
    ) -> None:  # fmt: skip
        if min(size, batch, at_once) < 1:
            raise Misused(f"OpenAIEmbedder({model!r}): size, batch and at_once are at least 1")
        self.name, self.size = model, size
        self._url, self._key, self._batch, self._at_once = f"{url.rstrip('/')}/embeddings", key, batch, at_once
        self._asked: dict[str, Any] = {"model": model, "encoding_format": "float"} | ({"dimensions": size} if shorten else {})
        self._client = httpx.Client(timeout=duration(timeout) / 1e6, follow_redirects=False)

    def embed(self, texts: Sequence[str]) -> Vector:
        """One row per text. Raises Unavailable if the endpoint does not answer or refuses us, IndexFailed if it refuses a text."""
        if not len(texts):
            return np.empty((0, self.size), dtype=np.float32)
        batches = [list(texts[start : start + self._batch]) for start in range(0, len(texts), self._batch)]
        with ThreadPoolExecutor(min(self._at_once, len(batches)), "embed") as pool:
            return np.concatenate(list(pool.map(self._embed, batches)))

    def _embed(self, texts: list[str]) -> Vector:
        try:
            response = self._client.post(self._url, json={**self._asked, "input": texts}, headers=self._headers())
        except httpx.TransportError as error:
            raise Unavailable(f"the embedding endpoint does not answer: {type(error).__name__}; check its address", retry_after=5) from None
        if response.status_code in _TEXT_IS_AT_FAULT:
            raise IndexFailed(f"the embedding endpoint refuses a text with {response.status_code}")
        if not response.is_success:
            hint = f"; check {self._key}" if response.status_code in (401, 403) else ""
            raise Unavailable(f"the embedding endpoint answers {response.status_code} for model {self.name}{hint}", retry_after=5)
        return self._rows(response, len(texts))

    def _headers(self) -> dict[str, str]:
        if self._key is None:
            return {}
        try:
            key = secret(self._key, f"the embedder {self.name}").decode()
        except Misused as error:
            raise Unavailable(str(error)) from None  # no text is at fault
        return {"authorization": f"Bearer {key}"}

    def _rows(self, response: httpx.Response, many: int) -> Vector:
        try:
            data = sorted(response.json()["data"], key=lambda one: one["index"])
            rows = np.array([unit(one["embedding"]) for one in data], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"the embedding endpoint answers something else than vectors: {type(error).__name__}") from None
        if rows.shape != (many, self.size):
            told = f"{rows.shape[0]} vectors of size {rows.shape[1]}" if rows.ndim == 2 else "no vectors"
            declared = f"model {self.name} was declared with size={self.size}"
            raise Unavailable(f"the embedding endpoint answers {told} for {many} texts; {declared}")
        if not np.isfinite(rows).all() or not rows.any(axis=1).all():
            raise Unavailable(f"the embedding endpoint answers vectors of model {self.name} that are all zero, or not finite")
        return rows
