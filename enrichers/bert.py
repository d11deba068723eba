"""BERT over texts of any length, packed one behind the other: nothing is padded, so nothing is computed in vain.

All that is done token by token (nine tenths of the work) is done for a whole pack at once; only attention looks at each text by itself.
So a text's row does not depend on its company, and mixed lengths cost no more than equal ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from headwater.enrichers.engine import Vector

PACK = 2048
"""Tokens of a pack: more do not fit the processor's caches, fewer make the multiplications small. One longer text goes alone."""

Tokens = Sequence[int]


class Bert:
    """The encoder's weights by their published names, in one precision; `heads` of attention; `epsilon` of the layers' norms."""

    def __init__(self, weights: Mapping[str, Any], heads: int, epsilon: float) -> None:
        self._weights, self._heads, self._epsilon = weights, heads, epsilon
        self._layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))

    def embed(self, texts: Sequence[Tokens]) -> Vector:
        """Token ids → one row per text, of length 1: the mean over its tokens, as sentence-transformers pools. No text may be empty."""
        import torch

        with torch.inference_mode():
            rows = [row for pack in packs(texts) for row in self._pooled(pack)]
            unit: Vector = torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()
        return unit

    def _pooled(self, pack: Sequence[Tokens]) -> list[Any]:
        lengths = [len(tokens) for tokens in pack]
        states = self._embedded(pack, lengths)
        for number in range(self._layers):
            states = self._layer(f"encoder.layer.{number}.", states, lengths)
        return [part.float().mean(0) for part in states.split(lengths)]

    def _embedded(self, pack: Sequence[Tokens], lengths: Sequence[int]) -> Any:
        import torch

        ids = torch.from_numpy(np.concatenate([np.asarray(tokens, dtype=np.int64) for tokens in pack]))
        places = torch.cat([torch.arange(length) for length in lengths])
        table = self._weights
        words = table["embeddings.word_embeddings.weight"][ids] + table["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings.LayerNorm", words + table["embeddings.position_embeddings.weight"][places])

    def _layer(self, at: str, states: Any, lengths: Sequence[int]) -> Any:
        import torch

        seen = self._linear(f"{at}attention.output.dense", self._attended(f"{at}attention.self.", states, lengths))
        states = self._norm(f"{at}attention.output.LayerNorm", seen + states)
        wide = torch.nn.functional.gelu(self._linear(f"{at}intermediate.dense", states))
        return self._norm(f"{at}output.LayerNorm", self._linear(f"{at}output.dense", wide) + states)

    def _attended(self, at: str, states: Any, lengths: Sequence[int]) -> Any:
        import torch

        total, width = states.shape
        three = (self._linear(at + part, states).view(total, self._heads, -1).transpose(0, 1) for part in ("query", "key", "value"))
        texts = zip(*(part.split(lengths, dim=1) for part in three), strict=True)
        attend = torch.nn.functional.scaled_dot_product_attention
        seen = [attend(query[None], key[None], value[None])[0] for query, key, value in texts]
        return torch.cat(seen, dim=1).transpose(0, 1).reshape(total, width)

    def _linear(self, name: str, states: Any) -> Any:
        import torch

        return torch.nn.functional.linear(states, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, states: Any) -> Any:
        import torch

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return torch.nn.functional.layer_norm(states, weight.shape, weight, bias, self._epsilon)


def packs(texts: Sequence[Tokens], budget: int = PACK) -> Iterator[list[Tokens]]:
    """Neighbours together, up to `budget` tokens."""
    pack: list[Tokens] = []
    size = 0
    for tokens in texts:
        if pack and size + len(tokens) > budget:
            yield pack
            pack, size = [], 0
        pack.append(tokens)
        size += len(tokens)
    if pack:
        yield pack
