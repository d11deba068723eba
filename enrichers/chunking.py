"""chunk: a document's text → retrievable pieces, as its chunker cuts it."""

import hashlib

from headwater.enrichers.chunker import Chunker, Markdown, Measure, words
from headwater.enrichers.document import Chunk, Document, passage


def chunk(document: Document, chunker: Chunker = Markdown(), tokens: Measure = words) -> list[Chunk]:
    """The chunks of a document, in order; blank pieces are none. `section` is what a chunk stands under, such as the path of headings."""
    chunks: list[Chunk] = []
    for section, text in chunker.pieces(document.text, tokens):
        if text.strip():
            chunks.append(Chunk(len(chunks), text, hash_of(passage(section, text)), section))
    return chunks


def hash_of(text: str) -> str:
    """32 hex digits of SHA-256: what makes two texts the same text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
